package kafka

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cluster(t *testing.T, topic string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func sink(t *testing.T, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func batch(n int) metering.Batch {
	b := metering.Batch{Seals: []metering.Seal{{Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 2}, Window: time.Unix(0, 0), Final: true}}}
	for i := range n {
		b.Cells = append(b.Cells, metering.Cell{
			Gateway: "g", Epoch: metering.Epoch{Counter: 1, Nonce: 2}, Window: time.Unix(60, 0),
			Series: metering.SeriesKey{Tenant: gatehouse.TenantID(fmt.Sprint("t", i)), Consumer: "\"é\n"}, Meter: "requests", Value: math.MaxInt64,
		})
	}
	return b
}

// read returns the first n records of a topic.
func read(t *testing.T, c *kfake.Cluster, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

func TestWrite(t *testing.T) {
	c := cluster(t, defaultTopic)
	s := sink(t, Config{Brokers: c.ListenAddrs(), Records: 2})
	if err := s.Write(t.Context(), batch(5)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range read(t, c, defaultTopic, 6) {
		got[string(r.Key)] = string(r.Value)
	}
	if len(got) != 6 {
		t.Errorf("%d keys", len(got))
	}
	for key, want := range map[string]string{
		"t4": `{"type":"cell","gateway":"g","epoch":"1-0000000000000002","window":"1970-01-01T00:01:00Z","tenant":"t4","consumer":"\"é\n","meter":"requests","value":"9223372036854775807"}`,
		"g":  `{"type":"seal","gateway":"g","epoch":"1-0000000000000002","window":"1970-01-01T00:00:00Z","final":true}`,
	} {
		if got[key] != want {
			t.Errorf("got %s, want %s", got[key], want)
		}
	}
}

// TestGivesUp: no broker, and one that does not answer, are errors in time.
func TestGivesUp(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		c.Timeout = time.Second
		err := sink(t, c).Write(t.Context(), batch(3))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(Config{Brokers: []string{"127.0.0.1:1"}}, "kafka: produce 3 records to gatehouse.usage: ")
	c := cluster(t, "t")
	f(Config{Brokers: c.ListenAddrs(), Topic: "nix"}, "kafka: produce 3 records to nix: ")
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return failed(r.(*kmsg.ProduceRequest)), nil, true
	})
	f(Config{Brokers: c.ListenAddrs(), Topic: "t"}, "kafka: produce 3 records to t: ")
}

// failed refuses all of a request, in a way that a client may retry.
func failed(r *kmsg.ProduceRequest) *kmsg.ProduceResponse {
	answer := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range r.Topics {
		a := kmsg.NewProduceResponseTopic()
		a.Topic, a.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = p.Partition, kerr.NotEnoughReplicas.Code
			a.Partitions = append(a.Partitions, part)
		}
		answer.Topics = append(answer.Topics, a)
	}
	return answer
}

func TestNewRefuses(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(Config{}, "kafka: no broker is given")
	f(Config{Brokers: []string{"a:1"}, Mechanism: "GSSAPI"}, `kafka: mechanism "GSSAPI" is none of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512`)
}
