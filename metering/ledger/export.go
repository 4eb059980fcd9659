package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/gatehouse-gateway/gatehouse"
)

// WriteJSON writes u as one JSON object.
func (u *Usage) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(u)
}

// WriteNDJSON writes each item as one line of JSON, with the meter, and u
// without items as the last line.
func (u *Usage) WriteNDJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i := range u.Items {
		if err := enc.Encode(struct {
			Meter string `json:"meter"`
			*Item
		}{u.Meter, &u.Items[i]}); err != nil {
			return err
		}
	}
	rest := struct {
		*Usage
		Items *struct{} `json:"items,omitempty"`
	}{Usage: u}
	return enc.Encode(rest)
}

// WriteCSV writes a line for each item, under a line of names: meter, unit,
// start, end, value and the dimensions of the groups. Usage without items is
// one line with the total. A text that a spreadsheet would run as a formula
// begins with an apostrophe.
func (u *Usage) WriteCSV(w io.Writer, groupBy []Dimension) error {
	items := u.Items
	if len(items) == 0 && u.Window == None {
		items = []Item{{Start: u.From, End: u.To, Value: u.Total}}
	}
	out := csv.NewWriter(w)
	line := []string{"meter", "unit", "start", "end", "value"}
	for _, d := range groupBy {
		line = append(line, string(d))
	}
	if err := out.Write(line); err != nil {
		return err
	}
	for i := range items {
		item := &items[i]
		line = append(line[:0], inert(u.Meter), u.Unit, item.Start.Format(time.RFC3339), item.End.Format(time.RFC3339), item.Value.String())
		for _, d := range groupBy {
			line = append(line, inert(item.Group[d]))
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func inert(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// WriteEvents writes the items as a batch of CloudEvents 1.0, one for each
// item, that ReadEvents reads where no value is negative. tenant is the
// subject of items that are not grouped by tenant. The id is made of the
// meter, the window and the group: the same usage has the same id, and other
// usage of the same window has so too.
func (u *Usage) WriteEvents(w io.Writer, source string, tenant gatehouse.TenantID) error {
	type data struct {
		Value    string `json:"value"`
		End      string `json:"end"`
		Route    string `json:"route,omitempty"`
		Consumer string `json:"consumer,omitempty"`
		Plan     string `json:"plan,omitempty"`
	}
	type event struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
		Subject     string `json:"subject"`
		Time        string `json:"time"`
		DataType    string `json:"datacontenttype"`
		Data        data   `json:"data"`
	}
	events := make([]event, 0, len(u.Items))
	for i := range u.Items {
		item := &u.Items[i]
		subject := string(tenant)
		if t, ok := item.Group[Tenant]; ok {
			subject = t
		}
		e := event{
			SpecVersion: "1.0", Source: source, Type: u.Meter, Subject: subject,
			Time: item.Start.Format(time.RFC3339), DataType: "application/json",
			Data: data{item.Value.String(), item.End.Format(time.RFC3339), item.Group[Route], item.Group[Consumer], item.Group[Plan]},
		}
		hash := sha256.Sum256([]byte(array([]string{e.Type, e.Subject, e.Time, e.Data.End, e.Data.Route, e.Data.Consumer, e.Data.Plan})))
		e.ID = base64.RawURLEncoding.EncodeToString(hash[:18])
		events = append(events, e)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(events)
}
