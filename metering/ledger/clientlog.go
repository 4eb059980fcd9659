package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
	"github.com/gatehouse-gateway/gatehouse/metering"
)

// ClientLog is what a client noted itself: a file with one line for each
// request that was acknowledged. It is a Source.
//
// A line is a JSON object with time (RFC 3339), tenant, and perhaps route,
// meter (default requests) and value (default 1, a whole number of the meter's
// smallest unit, as a string or a number). A file that does not begin with {
// is CSV whose first line names the same fields; no
// field holds a line's end.
type ClientLog struct {
	path, name string
}

// NewClientLog returns the log in a file. The file is read by Cells.
func NewClientLog(path, name string) *ClientLog { return &ClientLog{path, name} }

// Name is the name that it was made with.
func (c *ClientLog) Name() string { return c.name }

// Cells returns a cell for each line in the range, with no more than tenant,
// route, meter, minute and value. A line that is not whole at the end of the
// file, as after a crash, was never noted; any other bad line is an error.
func (c *ClientLog) Cells(ctx context.Context, from, to time.Time) iter.Seq2[metering.Cell, error] {
	return func(yield func(metering.Cell, error) bool) {
		if err := c.read(ctx, from, to, yield); err != nil && !errors.Is(err, errEnough) {
			yield(metering.Cell{}, err)
		}
	}
}

func (c *ClientLog) read(ctx context.Context, from, to time.Time, yield func(metering.Cell, error) bool) error {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	var head []string
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n == 1 && line[0] != '{' {
			if head, err = csv.NewReader(bytes.NewReader(line)).Read(); err == nil {
				continue
			}
		}
		var cell metering.Cell
		if err == nil {
			cell, err = readLine(head, line)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s:%d: %w", c.path, n, err)
		}
		if !cell.Window.Before(from) && cell.Window.Before(to) && !yield(cell, nil) {
			return errEnough
		}
	}
}

type logLine struct {
	Time   string             `json:"time"`
	Tenant gatehouse.TenantID `json:"tenant"`
	Route  gatehouse.RouteID  `json:"route"`
	Meter  string             `json:"meter"`
	Value  json.RawMessage    `json:"value"`
}

func (l *logLine) cell() (metering.Cell, error) {
	at, err := time.Parse(time.RFC3339, l.Time)
	if err != nil || l.Tenant == "" {
		return metering.Cell{}, errors.New("a time of RFC 3339 and a tenant are expected")
	}
	c := metering.Cell{
		Window: at.UTC().Truncate(time.Minute), Series: metering.SeriesKey{Tenant: l.Tenant, Route: l.Route},
		Meter: metering.MeterRequests, Value: 1,
	}
	if l.Meter != "" {
		c.Meter = l.Meter
	}
	if text := string(bytes.Trim(l.Value, `"`)); text != "" {
		if c.Value, err = strconv.ParseInt(text, 10, 64); err != nil {
			return metering.Cell{}, errors.New("value is not a whole number")
		}
	}
	return c, nil
}

// readLine reads CSV with the names in head, or JSON without.
func readLine(head []string, line []byte) (metering.Cell, error) {
	var l logLine
	if head == nil {
		if err := json.Unmarshal(line, &l); err != nil {
			return metering.Cell{}, err
		}
		return l.cell()
	}
	fields, err := csv.NewReader(bytes.NewReader(line)).Read()
	if err != nil {
		return metering.Cell{}, err
	}
	if len(fields) != len(head) {
		return metering.Cell{}, fmt.Errorf("%d fields, and %d are expected", len(fields), len(head))
	}
	for i, name := range head {
		switch name {
		case "time":
			l.Time = fields[i]
		case "tenant":
			l.Tenant = gatehouse.TenantID(fields[i])
		case "route":
			l.Route = gatehouse.RouteID(fields[i])
		case "meter":
			l.Meter = fields[i]
		case "value":
			l.Value = json.RawMessage(fields[i])
		}
	}
	return l.cell()
}
