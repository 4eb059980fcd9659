# By time: changes are made in working hours only, reading is always allowed.
package gatehouse.tenant.time_window

# The time is seen in steps of a minute, so that decisions can be kept.
cache_seconds := 60

# A zone of the IANA database. Hours are from first to before last.
zone := "UTC"

first := 8

last := 18

days := {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}

working if {
	time.weekday([input.time, zone]) in days
	[hour, _, _] := time.clock([input.time, zone])
	hour >= first
	hour < last
}

default allow := false

allow if input.request.method in {"GET", "HEAD", "OPTIONS"}

allow if working

reason := "changes are made in working hours only" if not allow

public if not allow
