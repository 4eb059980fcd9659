package journal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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
	// maxTelling bounds an answer, in bytes. A longer one is not sent.
	maxTelling = 2 << 20
	// maxTold bounds the questions that are answered at once. Those beyond are
	// not.
	maxTold = 16
)

// notice is a question, or a part of an answer.
type notice struct {
	// From is who sends it, To whose question it answers; empty for a question.
	From string `json:"from"`
	To   string `json:"to,omitempty"`
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
// not answered. While PostgreSQL is away Run tries again each second.
func (p *Peers) Run(ctx context.Context, answer func(context.Context, []byte) ([]byte, error)) {
	for ctx.Err() == nil {
		p.listen(ctx, answer)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// listen has a connection of its own, until it breaks.
func (p *Peers) listen(ctx context.Context, answer func(context.Context, []byte) ([]byte, error)) {
	conn, err := pgx.ConnectConfig(ctx, p.store.server)
	if err != nil {
		return
	}
	var telling sync.WaitGroup
	defer telling.Wait()
	defer func() {
		p.listens(0)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	// Who has the lock listens already.
	if _, err := conn.Exec(ctx, "LISTEN "+peersChannel); err != nil {
		return
	}
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock_shared("+strconv.FormatInt(peersLock, 10)+")"); err != nil {
		return
	}
	p.listens(conn.PgConn().PID())
	for {
		told, err := conn.WaitForNotification(ctx)
		if err != nil {
			return
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
					if text, err := answer(ctx, n.Text); err == nil && len(text) <= maxTelling {
						_ = p.send(ctx, notice{From: p.id, To: n.From, Question: n.Question, Text: text}) // it is missed there
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

// send writes a notice in parts that PostgreSQL takes, all at once.
func (p *Peers) send(ctx context.Context, n notice) error {
	t, err := p.store.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback() //nolint:errcheck // of what is committed, or of no use
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
	var missing int
	if err := p.store.db.QueryRowContext(ctx, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> $1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::bigint = $2 AND objid::bigint = $3`,
		int64(session), peersLock>>32, peersLock&0xffffffff).Scan(&missing); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnheard, err)
	}
	if missing == 0 {
		return nil, nil
	}
	n := notice{From: p.id, Question: rand.Text(), Text: question}
	parts := make(chan notice, 2*maxTelling/noticePart)
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
	for ; missing > 0; missing-- {
		for ended := false; !ended; {
			select {
			case <-ctx.Done():
				return whole, ErrUnheard
			case part := <-parts:
				if part.Part != next[part.From] {
					continue // one was lost
				}
				next[part.From]++
				texts[part.From] = append(texts[part.From], part.Text...)
				if ended = part.Last; ended {
					whole = append(whole, texts[part.From])
				}
			}
		}
	}
	return whole, nil
}
