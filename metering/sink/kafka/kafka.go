// Package kafka is a sink of cells in a Kafka topic.
//
// Each record is one cell or one seal, in JSON. Its key is the tenant, or the
// gateway of a seal, so that one tenant's cells are in one partition.
//
// A record may come more than once, and an older value after a newer one: a
// consumer keeps the largest value of each identity, which is all fields but
// value. For the same reason the topic's cleanup.policy is delete and not
// compact: compaction keeps the last record of a key, not the largest.
package kafka

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Config is what the sink is made of.
type Config struct {
	// Brokers are host:port of some of the cluster's brokers.
	Brokers []string
	// Topic exists. Default: gatehouse.usage.
	Topic string
	// TLS is how brokers are spoken to. Default: without TLS.
	TLS *tls.Config
	// Mechanism logs in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, with User and
	// Password. Default: no login.
	Mechanism string
	User      string
	Password  gatehouse.Secret
	// Timeout bounds how long records wait to be acknowledged. At least 1 s.
	// Default: 30 s.
	Timeout time.Duration
	// Records bounds those in memory. Default: 5,000, about 2 MiB.
	Records int
}

const (
	defaultTopic   = "gatehouse.usage"
	defaultTimeout = 30 * time.Second
	defaultRecords = 5_000
)

// Sink writes to one topic. It is safe for concurrent use.
type Sink struct {
	config Config
	client *kgo.Client
}

// New returns a sink. It fails only where the configuration makes no sense:
// brokers are spoken to by Write. Close ends it.
func New(c Config) (*Sink, error) {
	if len(c.Brokers) == 0 {
		return nil, errors.New("kafka: no broker is given")
	}
	if c.Topic == "" {
		c.Topic = defaultTopic
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Records <= 0 {
		c.Records = defaultRecords
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.DefaultProduceTopic(c.Topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(c.Records), kgo.RecordDeliveryTimeout(c.Timeout), kgo.RequestTimeoutOverhead(c.Timeout),
		// The producer is idempotent and waits for all replicas. A record whose
		// answer is lost is given up in time all the same: it is sent again with
		// its batch, and twice is once.
		kgo.AllowIdempotentProduceCancellation(),
	}
	if c.TLS != nil {
		options = append(options, kgo.DialTLSConfig(c.TLS))
	}
	login, err := mechanism(&c)
	if err != nil {
		return nil, err
	}
	if login != nil {
		options = append(options, kgo.SASL(login))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &Sink{c, client}, nil
}

func mechanism(c *Config) (sasl.Mechanism, error) {
	switch c.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Auth{User: c.User, Pass: string(c.Password)}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: c.User, Pass: string(c.Password)}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: c.User, Pass: string(c.Password)}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafka: mechanism %q is none of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512", c.Mechanism)
}

// Close ends the connections.
func (s *Sink) Close() { s.client.Close() }

// Name is "kafka".
func (s *Sink) Name() string { return "kafka" }

// Record is the JSON of one record.
type Record struct {
	// Type is cell or seal. Of the fields after Window a seal has Final alone.
	Type    string `json:"type"`
	Gateway string `json:"gateway"`
	// Epoch is as metering.Epoch.String writes it.
	Epoch    string             `json:"epoch"`
	Window   time.Time          `json:"window"`
	Tenant   gatehouse.TenantID `json:"tenant,omitempty"`
	Route    gatehouse.RouteID  `json:"route,omitempty"`
	Consumer string             `json:"consumer,omitempty"`
	Plan     gatehouse.PlanID   `json:"plan,omitempty"`
	Meter    string             `json:"meter,omitempty"`
	// Value is a string, so that no reader rounds it.
	Value int64 `json:"value,omitempty,string"`
	// Final says that the epoch is over.
	Final bool `json:"final,omitempty"`
}

// Write produces the cells, and when all are acknowledged the seals. An error
// leaves any part of them produced; the same batch is then written again.
func (s *Sink) Write(ctx context.Context, b metering.Batch) error {
	records := make([]*kgo.Record, 0, min(len(b.Cells)+len(b.Seals), s.config.Records))
	for i := range b.Cells {
		c := &b.Cells[i]
		records = append(records, record(string(c.Series.Tenant), Record{
			"cell", c.Gateway, c.Epoch.String(), c.Window.UTC(), c.Series.Tenant, c.Series.Route, c.Series.Consumer, c.Series.Plan, c.Meter, c.Value, false,
		}))
		if len(records) == s.config.Records {
			if err := s.produce(ctx, records); err != nil {
				return err
			}
			records = records[:0]
		}
	}
	if err := s.produce(ctx, records); err != nil {
		return err
	}
	records = records[:0]
	for _, v := range b.Seals {
		records = append(records, record(v.Gateway, Record{Type: "seal", Gateway: v.Gateway, Epoch: v.Epoch.String(), Window: v.Window.UTC(), Final: v.Final}))
	}
	return s.produce(ctx, records)
}

func record(key string, r Record) *kgo.Record {
	value, err := json.Marshal(r)
	if err != nil {
		panic("kafka: " + err.Error()) // a year beyond 9999
	}
	return &kgo.Record{Key: []byte(key), Value: value}
}

func (s *Sink) produce(ctx context.Context, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	if err := s.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("kafka: produce %d records to %s: %w", len(records), s.config.Topic, err)
	}
	return nil
}
