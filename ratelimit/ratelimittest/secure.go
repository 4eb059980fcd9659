package ratelimittest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Secure starts a redis-server that speaks TLS only, with the ACL user
// "gatehouse" of password "opensesame", which may use keys of gh: only and what docs/howto/redis.md grants. It
// returns the server, whose URL is rediss://, and the CA as PEM. Do does not
// work on it.
func Secure(t testing.TB) (*Server, []byte) {
	t.Helper()
	addr := FreeAddr(t)
	s := newServer(t, "redis-server", addr, nil)
	dir := s.args[5]
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write(t, certFile, string(ca))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	s.args = append(
		s.args, "--port", "0", "--tls-port", port(addr), "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no",
		"--user", "default", "off", "--user", "gatehouse", "on", ">opensesame", "~gh:*", "+@read", "+@write", "+@scripting", "+@connection", "+time",
	)
	s.URL = "rediss://" + addr
	s.launch()
	deadline := time.After(patience)
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return s, ca
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("no answer at %s: %v\n%s", addr, err, text)
		}
	}
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
