package metering

import "time"

// State is what an operator's metrics show.
type State struct {
	Gateway string
	Epoch   Epoch
	// Live is the folder of the live file; empty: a kill loses what was
	// counted since the last flush.
	Live string
	// Sealed is the last minute that is sealed, and Window the one that
	// counts; Held is set while that is an earlier one than the clock's.
	Sealed, Window time.Time
	Held           bool
	// Series of all tenants, those of Overflow among them, and Records of the
	// live file that count.
	Series, Overflow, Records int
	// Recovered requests were taken over from the live files of processes that
	// were killed, and Interrupted ones had not ended then; since this process
	// began.
	Recovered, Interrupted int64
	// LogBytes are those of the logs of all epochs, LogLimit their bound.
	LogBytes, LogLimit int64
	// Epochs are those before that have not been dropped.
	Epochs int
	Sinks  []SinkStatus
}

// State returns how metering stands.
func (m *Meter) State() State {
	fl := &m.flush
	s := State{LogLimit: m.o.Log, Window: windowTime(m.window.Load()), Sinks: m.Sinks()}
	for _, series := range m.all() {
		s.Series++
		if series.key.Consumer == Overflow {
			s.Overflow++
		}
	}
	m.live.mu.Lock()
	s.Records = len(m.live.taken)
	lost := m.live.told
	m.live.mu.Unlock()
	m.mu.Lock()
	s.Epochs = len(m.old)
	s.Recovered, s.Interrupted = m.recovered, m.cut
	m.mu.Unlock()
	fl.mu.Lock()
	defer fl.mu.Unlock()
	s.Gateway, s.Epoch = fl.meta.Gateway, fl.meta.Epoch
	if !lost {
		s.Live = fl.meta.Live
	}
	s.Sealed = windowTime(fl.sealed)
	s.Held = minute(fl.clock.now) > m.window.Load() // but for a flush interval
	if fl.folder != nil {
		s.LogBytes, _ = fl.logBytes() // what cannot be read is told by Health
	}
	return s
}

// Full returns why requests that would be billed should be refused: usage
// cannot be written, and Options.Refuse is set. It is nil otherwise, and costs
// one atomic load.
func (m *Meter) Full() error {
	if e := m.full.Load(); e != nil {
		return *e
	}
	return nil
}
