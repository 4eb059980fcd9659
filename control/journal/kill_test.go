package journal_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-gateway/gatehouse/control/journal"
	"github.com/gatehouse-gateway/gatehouse/control/journal/journaltest"
)

// TestKill kills a writer at random moments, again and again. What it had
// acknowledged is there, the chain verifies, and the tables are its fold.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := address(t)
			acknowledged := map[uint64]string{}
			kills := 0
			for ; kills < 3 || len(acknowledged) < *writes; kills++ {
				killed(t, self, at, kills, acknowledged)
				j, err := journal.Open(t.Context(), journal.Config{Address: at, Index: index})
				if err != nil {
					t.Fatalf("after kill %d: %v", kills, err)
				}
				head := journaltest.Sound(t, j)
				var last uint64
				for seq, hash := range acknowledged {
					e, err := j.Event(t.Context(), seq)
					if err != nil || e.Hash.String() != hash {
						t.Fatalf("kill %d: event %d of %d was acknowledged: %v", kills, seq, head.Seq, err)
					}
					last = max(last, seq)
				}
				if unsaid := head.Seq - uint64(len(acknowledged)); unsaid > uint64(16*(kills+1)) {
					t.Fatalf("%d events, %d acknowledged, the last %d", head.Seq, len(acknowledged), last)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d kills, %d acknowledged writes, 0 lost", kills, len(acknowledged))
		})
	}
}

// killed runs a writer for a while and notes what it acknowledged.
func killed(t *testing.T, self, address string, round int, acknowledged map[uint64]string) {
	t.Helper()
	c := exec.Command(self)
	c.Env = append(os.Environ(), writerAddress+"="+address)
	c.Stderr = os.Stderr
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// Every fifth is killed at whatever it does when it starts.
	after := time.Duration(rand.Int64N(int64(400 * time.Millisecond)))
	var timer *time.Timer
	kill := func() { c.Process.Kill() } //nolint:errcheck // it may have ended
	if round%5 == 4 {
		timer = time.AfterFunc(after, kill)
	}
	in := bufio.NewReader(stdout)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // with at most a torn line
		}
		if err != nil {
			t.Fatal(err)
		}
		if timer == nil {
			timer = time.AfterFunc(after, kill)
		}
		var seq uint64
		var hash string
		if _, err := fmt.Sscanf(line, "event %d %s", &seq, &hash); err != nil {
			t.Fatalf("the writer says: %s", strings.TrimSpace(line))
		}
		acknowledged[seq] = hash
	}
	c.Wait() //nolint:errcheck // killed
	timer.Stop()
}
