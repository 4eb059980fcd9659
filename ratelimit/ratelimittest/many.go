package ratelimittest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Watched is a primary with two replicas, watched by three sentinels.
type Watched struct {
	// URL is redis+sentinel://….
	URL       string
	Data      []*Server // the first is the primary at the start
	Sentinels []*Server
}

// Sentinel starts one.
func Sentinel(t testing.TB) *Watched {
	t.Helper()
	w := &Watched{}
	for i := range 3 {
		addr := FreeAddr(t)
		args := []string{"--port", port(addr), "--repl-diskless-sync-delay", "0"}
		if i > 0 {
			args = append(args, "--replicaof", "127.0.0.1", port(w.Data[0].Addr))
		}
		s := newServer(t, "redis-server", addr, args)
		s.Start()
		w.Data = append(w.Data, s)
	}
	w.Data[0].until("connected_slaves:2", "INFO", "replication")
	for range 3 {
		addr := FreeAddr(t)
		s := newServer(t, "redis-sentinel", addr, []string{"--port", port(addr)})
		file := s.args[5] + "/sentinel.conf"
		text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %s 2\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n", port(w.Data[0].Addr))
		write(t, file, text)
		s.args = append([]string{file}, s.args...)
		s.Start()
		w.Sentinels = append(w.Sentinels, s)
	}
	for _, s := range w.Sentinels {
		s.until("num-other-sentinels\n2", "SENTINEL", "MASTER", "main")
		s.until("num-slaves\n2", "SENTINEL", "MASTER", "main")
	}
	var hosts []string
	for _, s := range w.Sentinels {
		hosts = append(hosts, s.Addr)
	}
	w.URL = "redis+sentinel://" + strings.Join(hosts, ",") + "/main"
	return w
}

// Clustered is three nodes of a Redis Cluster, without replicas.
type Clustered struct {
	// URL is redis+cluster://….
	URL   string
	Nodes []*Server
}

// Cluster starts one.
func Cluster(t testing.TB) *Clustered {
	t.Helper()
	c := &Clustered{}
	var hosts []string
	for range 3 {
		addr := FreeAddr(t)
		s := newServer(t, "redis-server", addr, []string{
			"--port", port(addr), "--cluster-enabled", "yes", "--cluster-port", port(FreeAddr(t)), "--cluster-node-timeout", "5000",
		})
		s.Start()
		c.Nodes = append(c.Nodes, s)
		hosts = append(hosts, addr)
	}
	bounds := []string{"0", "5461", "5462", "10922", "10923", "16383"}
	for i, s := range c.Nodes {
		s.Do("CLUSTER", "ADDSLOTSRANGE", bounds[2*i], bounds[2*i+1])
	}
	for _, s := range c.Nodes[1:] {
		bus := s.args[indexOf(s.args, "--cluster-port")+1]
		c.Nodes[0].Do("CLUSTER", "MEET", "127.0.0.1", port(s.Addr), bus)
	}
	for _, s := range c.Nodes {
		s.until("cluster_known_nodes:3", "CLUSTER", "INFO")
		s.until("cluster_state:ok", "CLUSTER", "INFO")
	}
	c.URL = "redis+cluster://" + strings.Join(hosts, ",")
	return c
}

// Move gives a slot to another node, with its keys, the way that
// redis-cli --cluster reshard does it. It returns how many keys went.
func (c *Clustered) Move(slot string, from, to int) (keys int) {
	a, b := c.Nodes[from], c.Nodes[to]
	idA, idB := a.Do("CLUSTER", "MYID"), b.Do("CLUSTER", "MYID")
	b.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", idA)
	a.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", idB)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		names := a.Do("CLUSTER", "GETKEYSINSLOT", slot, "100")
		if names == "" {
			break
		}
		list := strings.Split(names, "\n")
		keys += len(list)
		a.Do(append([]string{"MIGRATE", "127.0.0.1", port(b.Addr), "", "0", "5000", "KEYS"}, list...)...)
	}
	for _, s := range []*Server{b, a, c.Nodes[3-from-to]} {
		s.Do("CLUSTER", "SETSLOT", slot, "NODE", idB)
	}
	return keys
}

func indexOf(list []string, s string) int {
	for i := range list {
		if list[i] == s {
			return i
		}
	}
	return -1
}
