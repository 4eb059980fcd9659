package ledger

import (
	"archive/zip"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var changes = flag.Int("changes", 2, "clock changes that are tried in each time zone; 0: all from 2000 to 2040")

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// zones are all of the tz database that comes with Go.
func zones(t testing.TB) []*time.Location {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib/time/zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var all []*time.Location
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, "/") {
			all = append(all, location(t, f.Name))
		}
	}
	if len(all) < 400 {
		t.Fatalf("%d time zones only", len(all))
	}
	return all
}

// changesOf are the minutes at which a zone's clock is changed.
func changesOf(zone *time.Location, from, to int) []int64 {
	var all []int64
	for t := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC).In(zone); ; {
		_, end := t.ZoneBounds()
		if end.IsZero() || end.Year() >= to {
			return all
		}
		all = append(all, end.Unix()/60)
		t = end
	}
}

func ends(w Window, zone *time.Location, from, to int64) []int64 {
	var all []int64
	for s := range windows(w, zone, from, to) {
		all = append(all, s.end)
	}
	return all
}

// TestWindows compares windows with a naive reading of the clock minute by
// minute, around changes of the clock and of the month in every zone.
func TestWindows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tried := 0
	for _, zone := range zones(t) {
		all := changesOf(zone, 2000, 2040)
		if *changes > 0 {
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			all = all[:min(len(all), *changes)]
		}
		all = append(all, time.Date(2027, 3, 1, 0, 0, 0, 0, zone).Unix()/60)
		for _, change := range all {
			tried++
			from, to := change-minutesPerDay-random.Int64N(60), change+minutesPerDay+random.Int64N(60)
			hours, days, months := naive(zone, from, to)
			for _, c := range []struct {
				window Window
				want   []int64
			}{{Hour, hours}, {Day, days}, {Month, months}} {
				if got := ends(c.window, zone, from, to); !slices.Equal(got, c.want) {
					t.Fatalf("%s, %s around %s: got ends\n%v, want\n%v", zone, c.window, timeOf(change), got, c.want)
				}
			}
			for _, d := range days {
				if !slices.Contains(hours, d) {
					t.Fatalf("%s: the day that ends at %s has a part of an hour", zone, timeOf(d))
				}
			}
		}
	}
	t.Logf("%d changes", tried)
}

// naive finds where hours, days and months end by the clock's face. A clock
// that is put back over midnight does not bring yesterday back.
func naive(zone *time.Location, from, to int64) (hours, days, months []int64) {
	var day, month int
	var offset int
	for m := from - 2*minutesPerHour; m < to; m++ {
		local := timeOf(m).In(zone)
		y, mo, d := local.Date()
		_, o := local.Zone()
		ofMonth := y*12 + int(mo)
		ofDay := ofMonth*32 + d
		if m > from {
			if local.Minute() == 0 || o != offset {
				hours = append(hours, m)
			}
			if ofDay > day {
				days = append(days, m)
			}
			if ofMonth > month {
				months = append(months, m)
			}
		}
		day, month, offset = max(day, ofDay), max(month, ofMonth), o
	}
	return append(hours, to), append(days, to), append(months, to)
}

func TestDays(t *testing.T) {
	f := func(zone, from, to, want string) {
		t.Helper()
		z := location(t, zone)
		first, last := localMinute(z, from), localMinute(z, to)
		var got []string
		for s := range windows(Day, z, first, last) {
			got = append(got, fmt.Sprintf("%s %gh", timeOf(s.start).Format("01-02T15:04"), float64(s.end-s.start)/60))
		}
		same(t, strings.Join(got, ", "), want)
	}
	f("Europe/Rome", "2027-03-27", "2027-03-30", "03-26T23:00 24h, 03-27T23:00 23h, 03-28T22:00 24h")
	f("Europe/Rome", "2027-10-30", "2027-11-02", "10-29T22:00 24h, 10-30T22:00 25h, 10-31T23:00 24h")
	f("Asia/Kolkata", "2027-01-01", "2027-01-03", "12-31T18:30 24h, 01-01T18:30 24h")
	f("Asia/Kathmandu", "2027-01-01", "2027-01-02", "12-31T18:15 24h")
	f("Australia/Lord_Howe", "2027-10-02", "2027-10-05", "10-01T13:30 24h, 10-02T13:30 23.5h, 10-03T13:00 24h")
	f("Australia/Lord_Howe", "2027-04-03", "2027-04-06", "04-02T13:00 24h, 04-03T13:00 24.5h, 04-04T13:30 24h")
	f("Pacific/Apia", "2011-12-29", "2012-01-01", "12-29T10:00 24h, 12-30T10:00 24h")                       // no 30 December
	f("America/Sao_Paulo", "2018-11-03", "2018-11-06", "11-03T03:00 24h, 11-04T03:00 23h, 11-05T02:00 24h") // no midnight
	f("America/St_Johns", "2010-11-06", "2010-11-09", "11-06T02:30 24h, 11-07T02:30 25h, 11-08T03:30 24h")  // 00:01 was followed by 23:01
}

func localMinute(zone *time.Location, date string) int64 {
	d := at(date + " 00:00")
	return begin(zone, d.Year(), d.Month(), d.Day())
}

func TestSlots(t *testing.T) {
	var s slots
	s.add(7, span{minutesPerDay - 61, 3*minutesPerDay + 62})
	same(t, fmt.Sprint(s), "{[[1 7] [2 7]] [[23 7] [72 7]] [[1379 7] [4380 7] [4381 7]]}")
}
