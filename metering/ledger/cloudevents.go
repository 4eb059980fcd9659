package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// Media types of CloudEvents 1.0, section 3 of its HTTP protocol binding.
const (
	EventType  = "application/cloudevents+json"
	EventsType = "application/cloudevents-batch+json"
)

// wireEvent is an Event as a CloudEvent in JSON.
type wireEvent struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Subject     string `json:"subject"`
	Time        string `json:"time,omitempty"`
	DataType    string `json:"datacontenttype,omitempty"`
	Data        struct {
		Value    json.RawMessage   `json:"value"`
		Route    gatehouse.RouteID `json:"route,omitempty"`
		Consumer string            `json:"consumer,omitempty"`
		Plan     gatehouse.PlanID  `json:"plan,omitempty"`
	} `json:"data"`
}

// ReadEvents reads one event or a batch of them, as contentType says: type is
// the meter, subject the tenant, and data an object with value, a number or a
// string, and perhaps route, consumer and plan; more members are left alone.
// The error has gatehouse.CodeInvalid. Whether values make sense is for Record
// to say. r is the body, which the caller bounds.
func ReadEvents(contentType string, r io.Reader) ([]Event, error) {
	invalid := func(format string, args ...any) ([]Event, error) {
		return nil, &gatehouse.Error{Code: gatehouse.CodeInvalid, Message: fmt.Sprintf(format, args...)}
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || media != EventType && media != EventsType {
		return invalid("events are of type %s or %s", EventType, EventsType)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var raw []json.RawMessage
	if media == EventType {
		raw = []json.RawMessage{body}
	} else if err := json.Unmarshal(body, &raw); err != nil {
		return invalid("the body is not a JSON array of events")
	}
	if len(raw) > MaxEvents {
		return invalid("at most %d events at once", MaxEvents)
	}
	events := make([]Event, len(raw))
	for i, text := range raw {
		if events[i], err = readEvent(text); err != nil {
			return invalid("event %d: %s", i, err)
		}
	}
	return events, nil
}

func readEvent(text []byte) (Event, error) {
	var w wireEvent
	if err := json.Unmarshal(text, &w); err != nil {
		return Event{}, fmt.Errorf("it is not a CloudEvent in JSON whose data is an object with a value")
	}
	if w.SpecVersion != "1.0" {
		return Event{}, fmt.Errorf("specversion is %q, and 1.0 is expected", w.SpecVersion)
	}
	if w.DataType != "" && !strings.HasPrefix(w.DataType, "application/json") {
		return Event{}, fmt.Errorf("datacontenttype is not application/json")
	}
	e := Event{
		ID: w.ID, Source: w.Source, Meter: w.Type, Tenant: gatehouse.TenantID(w.Subject),
		Value: string(w.Data.Value), Route: w.Data.Route, Consumer: w.Data.Consumer, Plan: w.Data.Plan,
	}
	if bytes.HasPrefix(w.Data.Value, []byte{'"'}) {
		if err := json.Unmarshal(w.Data.Value, &e.Value); err != nil {
			return Event{}, err
		}
	}
	if w.Time != "" {
		at, err := time.Parse(time.RFC3339, w.Time)
		if err != nil {
			return Event{}, fmt.Errorf("time is not of RFC 3339")
		}
		e.Time = at
	}
	return e, nil
}
