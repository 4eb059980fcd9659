package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Peers are the processes that have one journal on PostgreSQL open, and Run.
// They ask each other what is not in the store. Nothing of that is kept: a
// question and its answers are notifications, and who listens is known by a
// lock that ends with its connection.
type Peers struct {
	store *postgresStore
	id    string
	slots chan struct{} // a token for each question that is being answered

	mu      sync.Mutex
	session uint32                 // guarded by mu; PostgreSQL's process that listens for this one; 0: none does
	waiting map[string]chan notice // guarded by mu; by the question
}

// Peers returns the processes that this one can ask, nil on SQLite: it is one
// process's alone.
func (j *Journal) Peers() *Peers {
	s, ok := j.store.(*postgresStore)
	if !ok {
		return nil
	}
	return &Peers{store: s, id: rand.Text(), slots: make(chan struct{}, maxTold), waiting: map[string]chan notice{}}
}

const (
	// peersChannel is the NOTIFY channel of questions and answers, peersLock
	// the advisory lock that all who listen there share.
	peersChannel       = "gatehouse_peers"
	peersLock    int64 = 0x6761746570656572 // "gatepeer"
	// noticePart bounds the text of one notice, in bytes; base64 and the rest
	// of it must fit into PostgreSQL's 8,000.
	noticePart = 5000
	// MaxTelling bounds an answer, in bytes. A longer one is not sent.
	MaxTelling = 2 << 20
	// maxTold bounds the questions that are answered at once. Those beyond are
	// not.
	maxTold = 16
	// tellLimit is how long an answer, and its way to the store, may take.
	tellLimit = 5 * time.Second
	// joinLimit is how long it may take to begin to listen.
	joinLimit = 10 * time.Second
)

// notice is a question, or a part of an answer.
type notice struct {
	// From is who sends it, Session PostgreSQL's process that listens for it.
	From    string `json:"from"`
	Session uint32 `json:"session"`
	// To is whose question it answers; empty for a question.
	To string `json:"to,omitempty"`
	// Question is its id.
	Question string `json:"question"`
	// Part numbers those of an answer from 0; Last ends it.
	Part int    `json:"part,omitempty"`
	Last bool   `json:"last,omitempty"`
	Text []byte `json:"text"`
}

// ErrUnheard is of an Ask that not every peer has answered.
var ErrUnheard = errors.New("a control plane that shares the store has not answered")

// Run answers what peers ask, and hears their answers, until ctx ends. Without
// it Ask is ErrUnheard. answer is called by many goroutines; what it refuses is
// not answered. While PostgreSQL is away Run tries again each second; the log
// has when that begins, and when it ends.
func (p *Peers) Run(ctx context.Context, log *slog.Logger, answer func(context.Context, []byte) ([]byte, error)) {
	deaf := false
	for ctx.Err() == nil {
		err := p.listen(ctx, answer, func() {
			if deaf {
				log.Info("other control planes are heard again")
			}
			deaf = false
		})
		if ctx.Err() == nil && !deaf {
			log.Error("other control planes are not heard", "error", err)
			deaf = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// join returns a connection that listens. Who has the lock listens already. A
// peer whose machine is gone has it for half a minute more, until PostgreSQL
// finds that nobody is there.
func (p *Peers) join(ctx context.Context) (*pgx.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, joinLimit)
	defer stop()
	server := p.store.server.Copy()
	alive := net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3} // both ways
	server.DialFunc = (&net.Dialer{KeepAliveConfig: alive}).DialContext
	conn, err := pgx.ConnectConfig(ctx, server)
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		"SET tcp_keepalives_idle = 15", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 3",
		"LISTEN " + peersChannel, "SELECT pg_advisory_lock_shared(" + strconv.FormatInt(peersLock, 10) + ")",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			leave(ctx, conn)
			return nil, fmt.Errorf("%s: %w", statement, err)
		}
	}
	return conn, nil
}

// leave ends a connection, within a second.
func leave(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it is gone either way
}

// listen has a connection of its own, until it breaks; heard is called when it
// is there.
func (p *Peers) listen(ctx context.Context, answer func(context.Context, []byte) ([]byte, error), heard func()) error {
	conn, err := p.join(ctx)
	if err != nil {
		return err
	}
	var telling sync.WaitGroup
	defer telling.Wait()
	defer func() {
		p.listens(0)
		leave(ctx, conn)
	}()
	session := conn.PgConn().PID()
	p.listens(session)
	heard()
	for {
		told, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var n notice
		if json.Unmarshal([]byte(told.Payload), &n) != nil {
			continue // of another release
		}
		switch {
		case n.To == p.id:
			p.hand(&n)
		case n.To == "" && n.From != p.id:
			select {
			case p.slots <- struct{}{}:
				telling.Go(func() {
					defer func() { <-p.slots }()
					ctx, stop := context.WithTimeout(ctx, tellLimit)
					defer stop()
					if text, err := answer(ctx, n.Text); err == nil && len(text) <= MaxTelling {
						_ = p.send(ctx, notice{From: p.id, Session: session, To: n.From, Question: n.Question, Text: text}) // it is missed there
					}
				})
			default:
			}
		}
	}
}

func (p *Peers) listens(session uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.session = session
}

// hand gives a part of an answer to who waits for it. Where nobody takes it
// for so long it is lost, and the answer with it.
func (p *Peers) hand(n *notice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.waiting[n.Question] <- *n:
	default:
	}
}

// send writes a notice in parts that PostgreSQL takes, all at once. It waits
// for no disk: there is nothing to keep.
func (p *Peers) send(ctx context.Context, n notice) error {
	t, err := p.store.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback() //nolint:errcheck // of what is committed, or of no use
	if _, err := t.ExecContext(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
		return err
	}
	text := n.Text
	for ; !n.Last; n.Part++ {
		size := min(len(text), noticePart)
		n.Text, text = text[:size], text[size:]
		n.Last = len(text) == 0
		payload, err := json.Marshal(n)
		if err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, "SELECT pg_notify($1, $2)", peersChannel, string(payload)); err != nil {
			return err
		}
	}
	return t.Commit()
}

// others are PostgreSQL's processes that listen for peers, but for one.
func (p *Peers) others(ctx context.Context, session uint32) (map[uint32]bool, error) {
	rows, err := p.store.db.QueryContext(ctx, `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> $1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::bigint = $2 AND objid::bigint = $3`,
		int64(session), peersLock>>32, peersLock&0xffffffff)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[uint32]bool{}
	for rows.Next() {
		var pid uint32
		if err := rows.Scan(&pid); err != nil {
			return nil, err
		}
		out[pid] = true
	}
	return out, rows.Err()
}

// Ask puts a question of at most 5,000 bytes to all peers, and returns their
// answers, each in the form that it was given. It waits until all that listen
// have answered; ErrUnheard comes with those that did before ctx ended.
func (p *Peers) Ask(ctx context.Context, question []byte) ([][]byte, error) {
	if len(question) > noticePart {
		return nil, fmt.Errorf("a question of %d bytes: %w", len(question), ErrInvalid)
	}
	p.mu.Lock()
	session := p.session
	p.mu.Unlock()
	if session == 0 {
		return nil, fmt.Errorf("%w: it cannot be heard now", ErrUnheard)
	}
	missing, err := p.others(ctx, session)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnheard, err)
	}
	if len(missing) == 0 {
		return nil, nil
	}
	n := notice{From: p.id, Session: session, Question: rand.Text(), Text: question}
	parts := make(chan notice, 2*MaxTelling/noticePart)
	p.mu.Lock()
	p.waiting[n.Question] = parts
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, n.Question)
	}()
	if err := p.send(ctx, n); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnheard, err)
	}
	var whole [][]byte
	texts, next := map[string][]byte{}, map[string]int{}
	for len(missing) > 0 {
		select {
		case <-ctx.Done():
			return whole, ErrUnheard
		case part := <-parts:
			if part.Part != next[part.From] {
				continue // one was lost
			}
			next[part.From]++
			texts[part.From] = append(texts[part.From], part.Text...)
			if part.Last { // of one that came since as well
				whole = append(whole, texts[part.From])
				delete(missing, part.Session)
			}
		}
	}
	return whole, nil
}
