package proxy

// Line takes a request head through all of the line but the backend, as a
// transport would, and counts it.
func (g *Gateway) Line(head []byte) error {
	x := g.NewExchange()
	defer x.Release()
	x.transport = described(head)
	x.enter(phaseAdmit)
	g.metrics.inFlight.Add(1)
	err := g.clear(x)
	if err == nil {
		x.writeHead()
		x.Status = 200
		x.count()
	}
	x.mark()
	g.Finish(x, nil)
	return err
}
