package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
	"github.com/gatehouse-gateway/gatehouse/metering/servertest"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/clickhouse"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/cloudevents"
	"github.com/gatehouse-gateway/gatehouse/metering/sink/kafka"
)

type writer interface {
	Name() string
	Write(ctx context.Context, b metering.Batch) error
}

// trouble fails some of what passes, before it is done or after.
type trouble struct {
	mu             sync.Mutex // guards all
	random         *rand.Rand
	before, behind int
}

// next says what happens: nothing, a fault before it is done, or one after.
func (t *trouble) next() (before, after bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.random.IntN(5) {
	case 0:
		t.before++
		return true, false
	case 1:
		t.behind++
		return false, true
	}
	return false, false
}

// shaky is a sink whose answers get lost.
type shaky struct {
	writer
	*trouble
}

func (s shaky) Write(ctx context.Context, b metering.Batch) error {
	before, after := s.next()
	if before {
		return errFault
	}
	if err := s.writer.Write(ctx, b); err != nil {
		return err
	}
	if after {
		return errFault
	}
	return nil
}

// shakyServer stands before a server, and answers 502 now and then, even
// though the server has done what was asked.
func shakyServer(t *testing.T, target string, tr *trouble) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	query := u.RawQuery
	u.RawQuery = ""
	proxy := httputil.NewSingleHostReverseProxy(u)
	transport := &http.Transport{}
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before, after := tr.next()
		if !before && after {
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		if before || after {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	return s.URL + "/?" + query
}

// events is a receiver of CloudEvents that knows them by source and id.
type events struct {
	seen map[string]cloudevents.Event
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch []cloudevents.Event
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for _, v := range batch {
		if key := v.Source + " " + v.ID; e.seen[key].ID == "" {
			e.seen[key] = v
		}
	}
}

// load is batches of growing cells of two gateways with two lives each, in
// the order in which they were counted, with the seals of their minutes.
func load(random *rand.Rand) []metering.Batch {
	var batches []metering.Batch
	for minute := range 3 {
		window := at("2027-03-01 10:00").Add(time.Duration(minute) * time.Minute)
		for g := range 2 {
			epoch := metering.Epoch{Counter: uint32(1 + minute/2), Nonce: 1 << 63}
			cells := map[metering.SeriesKey][2]int64{}
			for flush := range 3 {
				b := metering.Batch{}
				for range 12 {
					k := metering.SeriesKey{Tenant: tenants[random.IntN(3)], Route: gatehouse.RouteID(fmt.Sprint("r", random.IntN(4))), Consumer: fmt.Sprint("c", random.IntN(3))}
					v := cells[k]
					cells[k] = [2]int64{v[0] + 1, v[1] + random.Int64N(1<<30)}
				}
				for k, v := range cells {
					for i, meter := range []string{metering.MeterRequests, metering.MeterUnits} {
						b.Cells = append(b.Cells, metering.Cell{Gateway: fmt.Sprint("g", g), Epoch: epoch, Window: window, Series: k, Meter: meter, Value: v[i]})
					}
				}
				if flush == 2 { // the last holds all that the minute has
					b.Seals = []metering.Seal{{Gateway: fmt.Sprint("g", g), Epoch: epoch, Window: window, Final: minute%2 == 1}}
				}
				batches = append(batches, b)
			}
		}
	}
	return batches
}

// TestChaos writes every batch three times, in any order, through failures
// before and after the commit, to five sinks. Their totals are equal.
func TestChaos(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	batches := load(random)
	want := map[string]int64{}
	for _, b := range batches {
		for _, c := range b.Cells {
			if len(b.Seals) > 0 {
				want[fmt.Sprint(c.Series.Tenant, " ", c.Series.Route, " ", c.Meter)] += c.Value
			}
		}
	}
	tr := &trouble{random: random}
	from, to := at("2027-03-01 00:00"), at("2027-03-02 00:00")

	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "usage"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	receiver := &events{seen: map[string]cloudevents.Event{}}
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)

	lite, post := open(t, filepath.Join(t.TempDir(), "ledger.db")), open(t, postgresURL(t))
	click, err := clickhouse.New(clickhouse.Config{URL: shakyServer(t, servertest.ClickHouse(t), tr)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(click.Close)
	kaf, err := kafka.New(kafka.Config{Brokers: cluster.ListenAddrs(), Topic: "usage"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kaf.Close)
	final, err := cloudevents.New(cloudevents.Config{URL: shakyServer(t, server.URL, tr), Events: 20, Final: lite.Final})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(final.Close)

	for _, s := range []writer{shaky{lite, tr}, shaky{post, tr}, click, shaky{kaf, tr}, final} {
		thrice := slices.Concat(batches, batches, batches)
		random.Shuffle(len(thrice), func(i, j int) { thrice[i], thrice[j] = thrice[j], thrice[i] })
		for _, b := range thrice {
			deliver(t, s, b)
		}
	}
	if tr.before < 25 || tr.behind < 25 {
		t.Errorf("%d faults before and %d after the commit only", tr.before, tr.behind)
	}
	sound(t, lite)
	sound(t, post)

	got := map[string]map[string]int64{}
	for _, l := range []*Ledger{lite, post} {
		got[l.Name()] = totals(t, l, from, to)
	}
	got["clickhouse"] = map[string]int64{}
	for range 50 { // it is asked through the shaky proxy, too
		clear(got["clickhouse"])
		if err = errors.Join(fold(got["clickhouse"], click.Cells(t.Context(), from, to))); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	got["kafka"] = consume(t, cluster, "usage")
	got["cloudevents"] = map[string]int64{}
	for _, e := range receiver.seen {
		n, err := parseBase(e.Type, e.Data.Value)
		if err != nil {
			t.Fatal(err)
		}
		got["cloudevents"][fmt.Sprint(e.Subject, " ", e.Data.Route, " ", e.Type)] += n
	}
	for name, sums := range got {
		if !maps.Equal(sums, want) {
			t.Errorf("%s has\n%v, want\n%v", name, sums, want)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d sinks", len(got))
	}
}

// deliver writes until that succeeds, as a shipper does.
func deliver(t *testing.T, s writer, b metering.Batch) {
	t.Helper()
	var err error
	for range 1000 {
		if err = s.Write(t.Context(), b); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", s.Name(), err)
}

// totals asks the ledger.
func totals(t *testing.T, l *Ledger, from, to time.Time) map[string]int64 {
	sums := map[string]int64{}
	for _, meter := range []string{metering.MeterRequests, metering.MeterUnits} {
		u := usageOf(t, l, Query{AllTenants: true, Meter: meter, From: from, To: to, GroupBy: []Dimension{Tenant, Route}})
		if len(u.Items) == 0 || !u.SealedUntil.Equal(at("2027-03-01 10:03")) {
			t.Errorf("%s: sealed until %s", l.Name(), u.SealedUntil)
		}
		for _, i := range u.Items {
			n, _ := i.Value.Base()
			sums[fmt.Sprint(i.Group[Tenant], " ", i.Group[Route], " ", meter)] = n
		}
	}
	return sums
}

func fold(sums map[string]int64, cells func(func(metering.Cell, error) bool)) error {
	for c, err := range cells {
		if err != nil {
			return err
		}
		sums[fmt.Sprint(c.Series.Tenant, " ", c.Series.Route, " ", c.Meter)] += c.Value
	}
	return nil
}

// consume reads a topic to its end, and keeps the largest value of each
// identity, as every consumer must.
func consume(t *testing.T, cluster *kfake.Cluster, topic string) map[string]int64 {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	largest := map[kafka.Record]int64{}
	ends := map[int32]int64{}
	for p := range int32(3) {
		ends[p] = cluster.PartitionInfo(topic, p).HighWatermark
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			var v kafka.Record
			if err := json.Unmarshal(r.Value, &v); err != nil {
				t.Fatal(err)
			}
			n := v.Value
			v.Value = 0
			if v.Type == "cell" {
				largest[v] = max(largest[v], n)
			}
			if r.Offset+1 == ends[r.Partition] {
				delete(ends, r.Partition)
			}
		}
		for p, end := range ends {
			if end == 0 {
				delete(ends, p)
			}
		}
	}
	sums := map[string]int64{}
	for c, n := range largest {
		sums[fmt.Sprint(c.Tenant, " ", c.Route, " ", c.Meter)] += n
	}
	return sums
}
