package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/gatehouse-gateway/gatehouse/metering"
)

// Cells returns each cell of [from, to) once, with its largest value, in the
// order of the minutes. It ends with an error if one comes.
func (s *Sink) Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		err := s.make(ctx)
		if err == nil {
			err = s.read(ctx, from, to, yield)
		}
		if err != nil {
			yield(metering.Cell{}, fmt.Errorf("clickhouse: read cells: %w", err))
		}
	}
}

func (s *Sink) read(ctx context.Context, from, to time.Time, yield func(metering.Cell, error) bool) error {
	body, err := s.do(ctx, fmt.Sprintf(`SELECT gateway, epoch_counter, toString(epoch_nonce) AS epoch_nonce, toUnixTimestamp(w) AS window,
			tenant, route, consumer, plan, meter, toString(v) AS value
		FROM (SELECT gateway, epoch_counter, epoch_nonce, window AS w, tenant, route, consumer, plan, meter, max(value) AS v
			FROM %s WHERE window >= toDateTime(%d) AND window < toDateTime(%d)
			GROUP BY gateway, epoch_counter, epoch_nonce, w, tenant, route, consumer, plan, meter)
		ORDER BY w FORMAT JSONEachRow`, s.config.Table, from.Unix(), to.Unix()), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var r record
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if !yield(metering.Cell{
			Gateway: r.Gateway, Epoch: metering.Epoch{Counter: r.Counter, Nonce: r.Nonce}, Window: time.Unix(r.Window, 0).UTC(),
			Series: metering.SeriesKey{Tenant: r.Tenant, Route: r.Route, Consumer: r.Consumer, Plan: r.Plan},
			Meter:  r.Meter, Value: r.Value,
		}, nil) {
			return nil
		}
	}
}
