package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

// spelled makes a token of an exact header and exact claims; sig makes the
// signature's bytes from what is signed.
func spelled(header, claims string, sig func(text string) []byte) string {
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	return text + "." + b64(sig(text))
}

func fixed(b []byte) func(string) []byte { return func(string) []byte { return b } }

// pss signs with a salt of n bytes.
func pss(key *rsa.PrivateKey, n int) func(string) []byte {
	return func(text string) []byte {
		hash := sha256.Sum256([]byte(text))
		b, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, hash[:], &rsa.PSSOptions{SaltLength: n})
		if err != nil {
			panic(err)
		}
		return b
	}
}

// TestAttacks is the list of known attacks on JSON Web Tokens. What is compared
// is all that the operator reads, so that no token is refused for another
// reason than the one meant.
func TestAttacks(t *testing.T) {
	p := private()
	strict := issuerDoc()
	strict.Issuer, strict.Profile = "https://strict.example", gatehouse.ProfileAccessToken
	second := issuerDoc()
	second.Issuer, second.JWKS = "https://second.example", jwks(jwk("r", p.rsa2, nil), jwk("second", p.rsa2, nil))
	narrow := issuerDoc()
	narrow.Issuer, narrow.Algorithms = "https://narrow.example", []string{"PS256"}
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc(), strict, second, narrow}})

	claims := fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","exp":%d}`, iss, api, noon.Add(time.Hour).Unix())
	r := object{"kid": "r"}
	valid := sign("RS256", r, good(nil), p.rsa)
	part := strings.Split(valid, ".")
	der, err := x509.MarshalPKIXPublicKey(&p.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	evil := jwk("r", p.rsa2, nil)
	access := func(changes object) object {
		c := object{"iss": strict.Issuer, "client_id": "shop", "jti": "1"}
		for k, v := range changes {
			c[k] = v
		}
		return good(c)
	}
	at := object{"kid": "r", "typ": "at+jwt"}
	raw := func(claims string) string { return sign("RS256", r, claims, p.rsa) }
	exp := func(text string) string {
		return raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","exp":%s}`, iss, api, text))
	}
	header := func(h string) string { return rs256(t, h, part[1]) }

	const (
		refused = "GH-ID-002 the token is not valid "
		form    = refused + "not three segments of base64url in at most 8 KiB"
		rsaSig  = refused + "signature is invalid: crypto/rsa: verification error"
		ecSig   = refused + "signature is invalid: crypto/ecdsa: verification error"
		unknown = refused + "kid is not in the issuer's key set"
		misfit  = refused + "the key of that kid does not fit the algorithm"
		expired = "GH-ID-002 the token has expired now is at or past exp"
		noDate  = refused + "exp is not a date"
	)
	for name, c := range map[string]struct{ token, want string }{
		"valid": {valid, "alice"},

		// No signature at all.
		"none":                    {spelled(`{"alg":"none","kid":"r"}`, claims, fixed(nil)), form},
		"none, signed":            {spelled(`{"alg":"none","kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "none" is not allowed`},
		"None":                    {spelled(`{"alg":"None","kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "None" is not allowed`},
		"nOnE":                    {spelled(`{"alg":"nOnE","kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "nOnE" is not allowed`},
		"none and a space":        {spelled(`{"alg":"none ","kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "none " is not allowed`},
		"alg empty":               {spelled(`{"alg":"","kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "" is not allowed`},
		"alg null":                {spelled(`{"alg":null,"kid":"r"}`, claims, fixed([]byte("x"))), refused + `algorithm "" is not allowed`},
		"alg in another case":     {header(`{"alg":"rs256","kid":"r"}`), refused + `algorithm "rs256" is not allowed`},
		"signature stripped":      {part[0] + "." + part[1] + ".", form},
		"signature of zeros":      {part[0] + "." + part[1] + "." + b64(make([]byte, 256)), rsaSig},
		"signature cut":           {part[0] + "." + part[1] + "." + part[2][:4], rsaSig},
		"signature and more":      {part[0] + "." + part[1] + "." + part[2][:len(part[2])-2] + "AAAA", rsaSig},
		"psychic signature":       {spelled(`{"alg":"ES256","kid":"e"}`, claims, fixed(make([]byte, 64))), ecSig},
		"ES256 in DER":            {spelled(`{"alg":"ES256","kid":"e"}`, claims, fixed(append([]byte{0x30, 0x44}, make([]byte, 68)...))), ecSig},
		"ES256 of 63 bytes":       {spelled(`{"alg":"ES256","kid":"e"}`, claims, fixed(make([]byte, 63))), ecSig},
		"EdDSA of zeros":          {spelled(`{"alg":"EdDSA","kid":"d"}`, claims, fixed(make([]byte, 64))), refused + "signature is invalid: ed25519: verification error"},
		"claims of another token": {part[0] + "." + b64([]byte(claims)) + "." + part[2], rsaSig},

		// One key used as another.
		"PEM as secret":              {sign("HS256", r, good(nil), public), refused + `algorithm "HS256" is not allowed`},
		"DER as secret":              {sign("HS256", r, good(nil), der), refused + `algorithm "HS256" is not allowed`},
		"modulus as secret":          {sign("HS256", r, good(nil), p.rsa.N.Bytes()), refused + `algorithm "HS256" is not allowed`},
		"JWKS as secret":             {sign("HS256", r, good(nil), []byte(issuerDoc().JWKS)), refused + `algorithm "HS256" is not allowed`},
		"ES256 by the RSA kid":       {sign("ES256", r, good(nil), p.p256), misfit},
		"RS256 by the EC kid":        {sign("RS256", object{"kid": "e"}, good(nil), p.rsa), misfit},
		"ES384 by the P-256 kid":     {sign("ES384", object{"kid": "e"}, good(nil), p.p384), misfit},
		"PKCS #1 said to be PSS":     {spelled(`{"alg":"PS256","kid":"r"}`, claims, pkcs1(t, p.rsa)), rsaSig},
		"PSS said to be PKCS #1":     {spelled(`{"alg":"RS256","kid":"r"}`, claims, pss(p.rsa, 32)), rsaSig},
		"PSS where RS is not let in": {sign("RS256", r, good(object{"iss": narrow.Issuer}), p.rsa), refused + `algorithm "RS256" is not allowed`},
		"PSS salt of the hash":       {spelled(`{"alg":"PS256","kid":"r"}`, claims, pss(p.rsa, 32)), "alice"},
		"PSS salt of 20":             {spelled(`{"alg":"PS256","kid":"r"}`, claims, pss(p.rsa, 20)), rsaSig},
		"PSS salt of the modulus":    {spelled(`{"alg":"PS256","kid":"r"}`, claims, pss(p.rsa, rsa.PSSSaltLengthAuto)), rsaSig},
		"RS384":                      {sign("RS384", r, good(nil), p.rsa), refused + `algorithm "RS384" is not allowed`},
		"another issuer's key":       {sign("RS256", object{"kid": "second"}, good(nil), p.rsa2), unknown},
		"another issuer's, same kid": {sign("RS256", r, good(nil), p.rsa2), rsaSig},

		// A key that the token brings along.
		"jwk":             {sign("RS256", object{"kid": "r", "jwk": evil}, good(nil), p.rsa2), rsaSig},
		"jwk, new kid":    {sign("RS256", object{"kid": "evil", "jwk": evil}, good(nil), p.rsa2), unknown},
		"jku":             {sign("RS256", object{"kid": "evil", "jku": "https://evil.example/keys"}, good(nil), p.rsa2), unknown},
		"jku of the host": {sign("RS256", object{"kid": "r", "jku": iss + "@evil.example/keys"}, good(nil), p.rsa2), rsaSig},
		"x5u":             {sign("RS256", object{"kid": "r", "x5u": "https://evil.example/cert"}, good(nil), p.rsa2), rsaSig},
		"x5c":             {sign("RS256", object{"kid": "r", "x5c": []string{base64.StdEncoding.EncodeToString(der)}}, good(nil), p.rsa2), rsaSig},
		"all, but good":   {sign("RS256", object{"kid": "r", "jwk": evil, "jku": "https://evil.example", "x5u": "x", "x5c": []string{"x"}}, good(nil), p.rsa), "alice"},

		// kid as a way in.
		"kid traversal":  {sign("HS256", object{"kid": "../../../../dev/null"}, good(nil), []byte{}), refused + `algorithm "HS256" is not allowed`},
		"kid traversal ": {sign("RS256", object{"kid": "../../../../dev/null"}, good(nil), p.rsa2), unknown},
		"kid SQL":        {sign("RS256", object{"kid": "x' UNION SELECT 'key' --"}, good(nil), p.rsa2), unknown},
		"kid command":    {sign("RS256", object{"kid": "r|/bin/id"}, good(nil), p.rsa2), unknown},
		"kid and NUL":    {sign("RS256", object{"kid": "r\x00"}, good(nil), p.rsa), unknown},
		"kid large":      {sign("RS256", object{"kid": strings.Repeat("k", 2<<10)}, good(nil), p.rsa), unknown},
		"kid huge":       {sign("RS256", object{"kid": strings.Repeat("k", 4<<10)}, good(nil), p.rsa), refused + "header of more than 3072 bytes"},
		"kid list":       {sign("RS256", object{"kid": []string{"r"}}, good(nil), p.rsa), refused + "kid is not a string"},

		// Headers that change the rules.
		"unknown crit": {sign("RS256", object{"kid": "r", "crit": []string{"http://evil.example/x"}}, good(nil), p.rsa), refused + "header member crit is not understood"},
		"crit null":    {header(`{"alg":"RS256","kid":"r","crit":null}`), refused + "header member crit is not understood"},
		"b64":          {sign("RS256", object{"kid": "r", "b64": false}, good(nil), p.rsa), refused + "header member b64 is not understood"},
		"b64 true":     {sign("RS256", object{"kid": "r", "b64": true}, good(nil), p.rsa), refused + "header member b64 is not understood"},
		"zip":          {sign("RS256", object{"kid": "r", "zip": "DEF"}, good(nil), p.rsa), refused + "header member zip is not understood"},
		"enc":          {sign("RS256", object{"kid": "r", "enc": "A256GCM"}, good(nil), p.rsa), refused + "header member enc is not understood"},
		"JWE":          {"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d", form},
		"JWE, dir":     {"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..b.c.d", form},
		"nested":       {sign("RS256", object{"kid": "r", "cty": "JWT"}, `"`+valid+`"`, p.rsa), refused + `cty "JWT": nested tokens are not read`},
		"nested, bare": {sign("RS256", r, valid, p.rsa), "GH-ID-002 the token's issuer is not accepted here no issuer of that name"},
		"header twice": {header(`{"alg":"none","kid":"r","alg":"RS256"}`), refused + `header: "alg": member given twice`},
		"escaped name": {header(`{"alg":"RS256","kid":"r","\u0061lg":"none"}`), refused + `header: "alg": member given twice`},
		"header list":  {header(`["RS256"]`), refused + "header: not a JSON object"},
		"header deep":  {header(`{"alg":"RS256","kid":"r","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), refused + "header: nested too deeply"},

		// Kinds of tokens (RFC 8725 section 3.11, RFC 9068 section 4).
		"typ dpop":              {sign("RS256", object{"kid": "r", "typ": "dpop+jwt"}, good(nil), p.rsa), refused + `typ "dpop+jwt" is not that of an access token`},
		"typ id":                {sign("RS256", object{"kid": "r", "typ": "id+jwt"}, good(nil), p.rsa), refused + `typ "id+jwt" is not that of an access token`},
		"typ empty":             {sign("RS256", object{"kid": "r", "typ": ""}, good(nil), p.rsa), refused + `typ "" is not that of an access token`},
		"typ number":            {sign("RS256", object{"kid": "r", "typ": 1}, good(nil), p.rsa), refused + `typ "" is not that of an access token`},
		"typ jWt":               {sign("RS256", object{"kid": "r", "typ": "Application/jWt"}, good(nil), p.rsa), "alice"},
		"access token":          {sign("RS256", at, access(nil), p.rsa), "alice"},
		"access token, long":    {sign("RS256", object{"kid": "r", "typ": "application/AT+JWT"}, access(nil), p.rsa), "alice"},
		"access token wanted":   {sign("RS256", object{"kid": "r", "typ": "JWT"}, access(nil), p.rsa), refused + "typ is not at+jwt, as this issuer's must be"},
		"ID token":              {sign("RS256", r, access(object{"nonce": "n", "azp": "shop", "at_hash": "x"}), p.rsa), refused + "typ is not at+jwt, as this issuer's must be"},
		"access, no client_id":  {sign("RS256", at, access(object{"client_id": nil}), p.rsa), refused + "client_id is missing, or no string, in a token of type at+jwt"},
		"access, no jti":        {sign("RS256", at, access(object{"jti": nil}), p.rsa), refused + "jti is missing, or no string, in a token of type at+jwt"},
		"access, jti number":    {sign("RS256", at, access(object{"jti": 7}), p.rsa), refused + "jti is missing, or no string, in a token of type at+jwt"},
		"access, no iat":        {sign("RS256", at, access(object{"iat": nil}), p.rsa), refused + "iat is missing in a token of type at+jwt"},
		"access, no sub":        {sign("RS256", at, access(object{"sub": nil}), p.rsa), refused + `sub "" is missing or not allowed`},
		"access, no aud":        {sign("RS256", at, access(object{"aud": nil}), p.rsa), refused + "aud has none of the expected values"},
		"access, no exp":        {sign("RS256", at, access(object{"exp": nil}), p.rsa), refused + "exp is missing"},
		"at+jwt of any profile": {sign("RS256", at, good(nil), p.rsa), refused + "client_id is missing, or no string, in a token of type at+jwt"},

		// Dates that are none.
		"exp text":       {exp(`"4102444800"`), noDate},
		"exp negative":   {exp("-1"), noDate},
		"exp -0":         {exp("-0"), expired},
		"exp 1e400":      {exp("1e400"), refused + "claims: number out of range"},
		"exp 1e308":      {exp("1e308"), noDate},
		"exp 1e3":        {exp("1e3"), expired},
		"exp year 10000": {exp("253402300800"), noDate},
		"exp year 9999":  {exp("253402300799"), "alice"},
		"exp 2^63":       {exp("9223372036854775807"), noDate},
		"exp 2^64":       {exp("18446744073709551616"), noDate},
		"exp NaN":        {exp("NaN"), refused + "claims: invalid character 'N' looking for beginning of value"},
		"exp Infinity":   {exp("Infinity"), refused + "claims: invalid character 'I' looking for beginning of value"},
		"exp octal":      {exp("04102444800"), refused + "claims: invalid character '4' after object key:value pair"},
		"exp hex":        {exp("0xFFFFFFFF"), refused + "claims: invalid character 'x' after object key:value pair"},
		"exp object":     {exp(`{"$date":4102444800}`), noDate},
		"exp false":      {exp("false"), noDate},
		"exp twice":      {exp("1,\"exp\":4102444800"), refused + `claims: "exp": member given twice`},

		// Spelling.
		"padding":             {valid + "=", form},
		"padding in claims":   {part[0] + "." + part[1] + "=." + part[2], form},
		"standard alphabet":   {strings.NewReplacer("-", "+", "_", "/").Replace(valid), form},
		"loose bits":          {valid[:len(valid)-1] + next(valid[len(valid)-1]), refused + "signature: illegal base64 data at input byte 340"},
		"space before":        {" " + valid, form},
		"space behind":        {valid + " ", form},
		"line end within":     {part[0] + ".\r\n" + part[1] + "." + part[2], form},
		"NUL behind":          {valid + "\x00", form},
		"no dots":             {"token", form},
		"two segments":        {part[0] + "." + part[1], form},
		"four segments":       {valid + ".AA", form},
		"dot behind":          {valid + ".", form},
		"dots only":           {"..", form},
		"byte order mark":     {raw("\ufeff" + claims), "GH-ID-002 the token's issuer is not accepted here no issuer of that name"},
		"BOM in the header":   {header("\ufeff" + `{"alg":"RS256","kid":"r"}`), refused + "header: invalid character 'ï' looking for beginning of value"},
		"invalid UTF-8":       {raw(strings.Replace(claims, "alice", "al\xffice", 1)), refused + "claims: not UTF-8"},
		"invalid UTF-8 above": {header("{\"alg\":\"RS256\",\"kid\":\"r\",\"x\":\"\xc0\xaf\"}"), refused + "header: not UTF-8"},
		"two objects":         {raw(claims + claims), refused + "claims: text after the object"},
		"comment":             {raw(claims[:len(claims)-1] + "/**/}"), refused + "claims: invalid character '/' after object key:value pair"},
		"claims deep":         {raw(claims[:len(claims)-1] + `,"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}"), refused + "claims: nested too deeply"},
		"8 KiB and one":       {valid + strings.Repeat("A", maxToken+1-len(valid)), form},
		"JSON form":           {`{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`, form},
	} {
		if got := outcome(v.Token([]byte(c.token), nil, noon)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func pkcs1(t *testing.T, key *rsa.PrivateKey) func(string) []byte {
	return func(text string) []byte {
		hash := sha256.Sum256([]byte(text))
		b, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func TestWeakSecretsAreFaults(t *testing.T) {
	f := func(alg string, n int, want string) {
		t.Helper()
		_, faults := Compile("acme", gatehouse.Identity{JWT: []gatehouse.Issuer{{
			Issuer: iss, Audience: []string{api}, Algorithms: []string{alg}, SecretFile: "s", Secret: make([]byte, n),
		}}}, nil, nil, nil)
		if got := faults.Error(); got != want {
			t.Errorf("%s of %d bytes: %q, want %q", alg, n, got, want)
		}
	}
	f("HS256", 32, "")
	f("HS256", 31, "/jwt/0/secret_file: a secret of 31 bytes; HS256 needs at least 32")
	f("HS384", 47, "/jwt/0/secret_file: a secret of 47 bytes; HS384 needs at least 48")
	f("HS512", 63, "/jwt/0/secret_file: a secret of 63 bytes; HS512 needs at least 64")
	f("HS512", 64, "")
}

func TestIsJWT(t *testing.T) {
	f := func(token string, want bool) {
		t.Helper()
		if got := IsJWT([]byte(token)); got != want {
			t.Errorf("%.60q: %v", token, got)
		}
	}
	f(sign("RS256", nil, good(nil), private().rsa), true)
	f("e30.", true)
	f("e30.x", true)
	f(b64([]byte(` {"alg":"none"}`))+"..", true)
	f("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..b.c.d", true)
	f("ey"+strings.Repeat("A", maxHeader)+".x.y", true)
	f("eyJhbGciOiJSUzI1NiJ9", false)
	f("", false)
	f(".", false)
	f("mF_9.B5f-4.1JqM", false)
	f("2YotnFZFEjr1zCsicMWpAA", false)
	f("e30=.x.y", false)
	f(b64([]byte("[1]"))+".x.y", false)
	if n := testing.AllocsPerRun(100, func() { IsJWT([]byte("e30.x.y")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
