package identity

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	gatehouse "github.com/gatehouse-gateway/gatehouse"
)

func TestToken(t *testing.T) {
	p := private()
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{
		issuerDoc(),
		{
			Issuer: "https://second.example", Audience: []string{api}, Algorithms: []string{"RS256"}, JWKSFile: "k",
			JWKS: jwks(jwk("second", p.rsa2, nil)), TenantClaim: "org",
		},
		{Issuer: "https://shared.example", Audience: []string{api}, Algorithms: []string{"HS256"}, SecretFile: "s", Secret: []byte(strings.Repeat("s", 32))},
		{Issuer: "https://awaited.example", Audience: []string{api}, Algorithms: []string{"RS256"}, JWKSFile: "later"},
		{Issuer: "https://unsecret.example", Audience: []string{api}, Algorithms: []string{"HS256"}, SecretFile: "later"},
		{Issuer: "https://awaited-url.example", Audience: []string{api}, Algorithms: []string{"RS256"}, JWKSURL: "https://k"},
		{
			Issuer: "https://marked.example", Audience: []string{api}, Algorithms: []string{"RS256", "PS256", "ES256", "ES512"}, JWKSFile: "k",
			JWKS: jwks(jwk("ps", p.rsa, object{"alg": "PS256"}), jwk("enc", p.rsa2, object{"use": "enc"}), jwk("sign", p.rsa2, object{"key_ops": []string{"sign"}}), jwk("e5", p.p521, nil)),
		},
	}})
	r := object{"kid": "r"}
	valid := sign("RS256", r, good(nil), p.rsa)
	part := strings.Split(valid, ".")
	der, err := x509.MarshalPKIXPublicKey(&p.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	evil := jwk("r", p.rsa2, nil)

	const (
		refused = "GH-ID-002 the token is not valid "
		expired = "GH-ID-002 the token has expired "
		unknown = "GH-ID-002 the token's issuer is not accepted here "
		foreign = "GH-RS-003 the token belongs to another tenant "
		badSig  = refused + "signature is invalid"
		badForm = refused + "not three segments"
	)
	claim := func(changes object) string { return sign("RS256", r, good(changes), p.rsa) }
	raw := func(claims string) string { return sign("RS256", r, claims, p.rsa) }
	date := func(exp string) string {
		return raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","exp":%s}`, iss, api, exp))
	}
	for name, c := range map[string]struct{ token, want string }{
		"RS256":          {valid, "alice"},
		"PS256":          {sign("PS256", r, good(nil), p.rsa), "alice"},
		"ES256":          {sign("ES256", object{"kid": "e"}, good(nil), p.p256), "alice"},
		"EdDSA":          {sign("EdDSA", object{"kid": "d"}, good(nil), p.ed), "alice"},
		"HS256 and kid":  {sign("HS256", object{"kid": "x"}, good(object{"iss": "https://shared.example"}), []byte(strings.Repeat("s", 32))), "alice"},
		"typ JWT":        {sign("RS256", object{"kid": "r", "typ": "JWT"}, good(nil), p.rsa), "alice"},
		"HS256":          {sign("HS256", nil, good(object{"iss": "https://shared.example"}), []byte(strings.Repeat("s", 32))), "alice"},
		"several aud":    {claim(object{"aud": []string{"x", api}}), "alice"},
		"no kid, choice": {sign("RS256", nil, good(nil), p.rsa), "alice"},
		"fraction":       {date("1795438800.5"), "alice"},

		// RFC 8725 section 2.1, 3.1: algorithms.
		"none":                  {b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".", badForm},
		"none with a signature": {b64([]byte(`{"alg":"none","kid":"r"}`)) + "." + part[1] + "." + part[2], `algorithm "none" is not allowed`},
		"None":                  {b64([]byte(`{"alg":"None","kid":"r"}`)) + "." + part[1] + "." + part[2], refused},
		"no alg":                {b64([]byte(`{"kid":"r"}`)) + "." + part[1] + "." + part[2], refused},
		"alg not text":          {b64([]byte(`{"alg":["RS256"],"kid":"r"}`)) + "." + part[1] + "." + part[2], refused},
		"public key as secret":  {sign("HS256", r, good(nil), public), `algorithm "HS256" is not allowed`},
		"DER as secret":         {sign("HS256", r, good(nil), der), `algorithm "HS256" is not allowed`},
		"RS384 not allowed":     {sign("RS384", r, good(nil), p.rsa), `algorithm "RS384" is not allowed`},
		"ES256 with RSA kid":    {sign("ES256", r, good(nil), p.p256), "does not fit"},
		"RS256 to HS issuer":    {sign("RS256", r, good(object{"iss": "https://shared.example"}), p.rsa), `algorithm "RS256" is not allowed`},
		"key's own alg":         {sign("RS256", object{"kid": "ps"}, good(object{"iss": "https://marked.example"}), p.rsa), "does not fit"},
		"key's own alg agrees":  {sign("PS256", object{"kid": "ps"}, good(object{"iss": "https://marked.example"}), p.rsa), "alice"},
		"key for encryption":    {sign("RS256", object{"kid": "enc"}, good(object{"iss": "https://marked.example"}), p.rsa2), "kid is not in"},
		"key_ops sign":          {sign("RS256", object{"kid": "sign"}, good(object{"iss": "https://marked.example"}), p.rsa2), "kid is not in"},
		"curve of another alg":  {sign("ES512", object{"kid": "e5", "alg": "ES256"}, good(object{"iss": "https://marked.example"}), p.p521), "does not fit"},

		// RFC 8725 sections 2.2, 3.3: signatures.
		"tampered claims":    {part[0] + "." + b64([]byte(strings.Replace(decode(t, part[1]), "alice", "admin", 1))) + "." + part[2], badSig},
		"tampered header":    {b64([]byte(`{"alg":"RS256","kid":"r","x":1}`)) + "." + part[1] + "." + part[2], badSig},
		"another's key":      {sign("RS256", r, good(nil), p.rsa2), badSig},
		"empty signature":    {part[0] + "." + part[1] + ".", badForm},
		"short signature":    {part[0] + "." + part[1] + "." + part[2][:100], badSig},
		"two segments":       {part[0] + "." + part[1], badForm},
		"four segments":      {valid + "." + part[2], badForm},
		"five segments, JWE": {"a.b.c.d.e", badForm},
		"empty":              {"", badForm},
		"dots":               {"..", badForm},
		"line end":           {part[0] + "." + part[1] + "\n." + part[2], badForm},
		"padding":            {valid + "==", badForm},
		"loose last bits":    {valid[:len(valid)-1] + next(valid[len(valid)-1]), refused},
		"oversize":           {claim(object{"fill": strings.Repeat("x", maxToken)}), badForm},

		"large header": {sign("RS256", object{"kid": "r", "x": strings.Repeat("x", maxHeader)}, good(nil), p.rsa), "header of more"},
		"certificate":  {sign("RS256", object{"kid": "r", "x5c": []string{strings.Repeat("A", 1600)}}, good(nil), p.rsa), "alice"},

		// RFC 8725 section 3.10: keys come from the issuer alone.
		"embedded jwk":  {sign("RS256", object{"kid": "r", "jwk": evil}, good(nil), p.rsa2), badSig},
		"jwk, no kid":   {sign("RS256", object{"jwk": evil}, good(nil), p.rsa2), badSig},
		"jku":           {sign("RS256", object{"kid": "evil", "jku": "https://evil.example/keys"}, good(nil), p.rsa2), "kid is not in"},
		"x5u":           {sign("RS256", object{"kid": "r", "x5u": "https://evil.example/cert"}, good(nil), p.rsa2), badSig},
		"kid traversal": {sign("RS256", object{"kid": "../../dev/null"}, good(nil), p.rsa2), "kid is not in"},
		"kid injection": {sign("RS256", object{"kid": "r' OR '1'='1"}, good(nil), p.rsa2), "kid is not in"},
		"kid number":    {sign("RS256", object{"kid": 1}, good(nil), p.rsa), "kid is not a string"},
		"kid empty":     {sign("RS256", object{"kid": ""}, good(nil), p.rsa), "kid is not in"},
		"second's kid":  {sign("RS256", object{"kid": "second"}, good(nil), p.rsa2), "kid is not in"},
		"unknown crit":  {sign("RS256", object{"kid": "r", "crit": []string{"exp"}}, good(nil), p.rsa), "crit"},
		"empty crit":    {sign("RS256", object{"kid": "r", "crit": []string{}}, good(nil), p.rsa), "crit"},
		"b64 crit":      {sign("RS256", object{"kid": "r", "crit": []string{"b64"}, "b64": false}, good(nil), p.rsa), "crit"},
		"typ dpop":      {sign("RS256", object{"kid": "r", "typ": "dpop+jwt"}, good(nil), p.rsa), "typ"},
		"typ logout":    {sign("RS256", object{"kid": "r", "typ": "logout+jwt"}, good(nil), p.rsa), "typ"},
		"no keys yet":   {sign("RS256", r, good(object{"iss": "https://awaited.example"}), p.rsa), "no keys yet"},
		"no URL yet":    {sign("RS256", r, good(object{"iss": "https://awaited-url.example"}), p.rsa), "no keys yet"},
		"empty secret":  {sign("HS256", nil, good(object{"iss": "https://unsecret.example"}), []byte{}), "no keys yet"},

		// RFC 8725 sections 3.8, 3.9 and RFC 7519 section 4.1: claims.
		"wrong iss":     {claim(object{"iss": "https://evil.example"}), unknown},
		"iss and slash": {claim(object{"iss": iss + "/"}), unknown},
		"no iss":        {claim(object{"iss": nil}), unknown},
		"iss list":      {claim(object{"iss": []string{iss}}), unknown},
		"second's iss":  {claim(object{"iss": "https://second.example"}), "kid is not in"},
		"wrong aud":     {claim(object{"aud": "https://api.example.evil"}), "aud has none"},
		"no aud":        {claim(object{"aud": nil}), "aud has none"},
		"aud words":     {claim(object{"aud": "x " + api}), "aud has none"},
		"aud mixed":     {claim(object{"aud": []any{api, 1}}), "aud has none"},
		"no sub":        {claim(object{"sub": nil}), "sub"},
		"empty sub":     {claim(object{"sub": ""}), "sub"},
		"sub number":    {claim(object{"sub": 7}), "sub"},
		"sub of a key":  {claim(object{"sub": "key:prod"}), "sub"},
		"expired":       {claim(object{"exp": noon.Add(-time.Second).Unix()}), expired},
		"exp is now":    {claim(object{"exp": noon.Unix()}), expired},
		"no exp":        {claim(object{"exp": nil}), "exp is missing"},
		"exp null":      {date("null"), "exp is not a date"},
		"exp text":      {date(`"1795438800"`), "exp is not a date"},
		"exp negative":  {date("-1"), "exp is not a date"},
		"exp zero":      {date("0"), expired},
		"exp 1e400":     {date("1e400"), "number out of range"},
		"exp 1e300":     {date("1e300"), "exp is not a date"},
		"exp 2^63":      {date("9223372036854775808"), "exp is not a date"},
		"exp list":      {date("[1795438800]"), "exp is not a date"},
		"exp NaN":       {date("NaN"), refused},
		"exp true":      {date("true"), "exp is not a date"},
		"nbf future":    {claim(object{"nbf": noon.Add(61 * time.Second).Unix()}), "future"},
		"nbf leeway":    {claim(object{"nbf": noon.Add(60 * time.Second).Unix()}), "alice"},
		"nbf text":      {claim(object{"nbf": "0"}), "nbf is not a date"},
		"iat future":    {claim(object{"iat": noon.Add(61 * time.Second).Unix()}), "future"},
		"iat leeway":    {claim(object{"iat": noon.Add(60 * time.Second).Unix()}), "alice"},

		// One reading only: RFC 8725 section 2.4, RFC 7519 section 4.
		"duplicate claim":  {raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","sub":"admin","exp":1795438800}`, iss, api)), "given twice"},
		"duplicate nested": {raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"a","exp":1795438800,"x":[{"a":1,"\u0061":2}]}`, iss, api)), "given twice"},
		"duplicate iss":    {raw(fmt.Sprintf(`{"iss":%q,"iss":"x","aud":%q,"sub":"alice","exp":1795438800}`, iss, api)), "given twice"},
		"escaped iss name": {raw(fmt.Sprintf(`{"\u0069ss":%q,"aud":%q,"sub":"alice","exp":1795438800}`, iss, api)), unknown},
		"iss in two ways":  {raw(fmt.Sprintf(`{"\u0069ss":"x","iss":%q,"aud":%q,"sub":"alice","exp":1795438800}`, iss, api)), "given twice"},
		"case matters":     {raw(fmt.Sprintf(`{"ISS":%q,"aud":%q,"sub":"alice","exp":1795438800}`, iss, api)), unknown},
		"not UTF-8":        {raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"a`+"\xff"+`","exp":1795438800}`, iss, api)), "not UTF-8"},
		"trailing text":    {raw(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"alice","exp":1795438800}{}`, iss, api)), refused},
		"claims null":      {raw("null"), unknown},
		"claims list":      {raw("[]"), unknown},
		"claims text":      {raw(`"x"`), unknown},
		"duplicate header": {rs256(t, `{"alg":"RS256","kid":"x","kid":"r"}`, part[1]), "given twice"},

		// RFC 8725 section 3.9, between tenants.
		"own tenant":        {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example", "org": "acme"}), p.rsa2), "alice"},
		"no tenant claim":   {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example"}), p.rsa2), "alice"},
		"other tenant":      {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example", "org": "umbrella"}), p.rsa2), foreign},
		"tenant null":       {sign("RS256", object{"kid": "second"}, `{"iss":"https://second.example","aud":"`+api+`","sub":"a","exp":1795438800,"org":null}`, p.rsa2), foreign},
		"tenant list":       {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example", "org": []string{"acme"}}), p.rsa2), foreign},
		"forged for other":  {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example", "org": "umbrella"}), p.rsa), badSig},
		"expired for other": {sign("RS256", object{"kid": "second"}, good(object{"iss": "https://second.example", "org": "umbrella", "exp": 1}), p.rsa2), expired},
	} {
		got := outcome(v.Token([]byte(c.token), nil, noon))
		expect(t, name, got, c.want)
		if again := outcome(v.Token([]byte(c.token), nil, noon)); again != got {
			t.Errorf("%s: second time %s, first %s", name, again, got)
		}
	}
}

func decode(t *testing.T, segment string) string {
	t.Helper()
	buf := make([]byte, maxToken)
	b, ok := payloadOf([]byte("."+segment+"."), buf)
	if !ok {
		t.Fatal("segment does not decode")
	}
	return string(b)
}

// rs256 signs an exact header and an encoded payload with the key r.
func rs256(t *testing.T, header, payload string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + payload
	sig, err := jwt.SigningMethodRS256.Sign(text, private().rsa)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// next is the base64url digit after c: as the last digit of a 256-byte
// signature it differs from c in bits that carry nothing.
func next(c byte) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return digits[strings.IndexByte(digits, c)+1:][:1]
}

func TestTokenPrincipal(t *testing.T) {
	p := private()
	doc := issuerDoc()
	doc.RolesClaim = "https://example/roles"
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{doc}})
	f := func(claims object, roles, scopes, groups []string) {
		t.Helper()
		got, err := v.Token([]byte(sign("RS256", object{"kid": "r"}, good(claims), p.rsa)), nil, noon)
		if err != nil {
			t.Fatal(err)
		}
		pr := got.Principal
		if pr.Kind != "user" || pr.ID != "alice" || pr.Tenant != "acme" || got.Method != MethodJWT || got.KeyID != "" {
			t.Errorf("%v: %+v %+v", claims, got, pr)
		}
		if !got.Expires.Equal(noon.Add(time.Hour)) || pr.Claims["iss"] != iss {
			t.Errorf("%v: expires %v, claims %v", claims, got.Expires, pr.Claims)
		}
		for name, pair := range map[string][2][]string{"roles": {pr.Roles, roles}, "scopes": {pr.Scopes, scopes}, "groups": {pr.Groups, groups}} {
			if len(pair[0])+len(pair[1]) > 0 && !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%v: %s %q, want %q", claims, name, pair[0], pair[1])
			}
		}
	}
	f(object{}, nil, nil, nil)
	f(object{"https://example/roles": []string{"a", "b c"}, "scope": "r  w", "groups": []string{"g"}}, []string{"a", "b c"}, []string{"r", "w"}, []string{"g"})
	f(object{"https://example/roles": "a b", "scp": []string{"r", "w"}}, []string{"a", "b"}, []string{"r", "w"}, nil)
	f(object{"roles": "a b", "scp": "r w"}, nil, []string{"r", "w"}, nil)
	f(object{"https://example/roles": []any{"admin", 1}, "scope": object{}, "scp": "r", "groups": 1}, nil, nil, nil)
}

func TestTokenKeepsDigits(t *testing.T) {
	v := compile(t, "acme", gatehouse.Identity{JWT: []gatehouse.Issuer{issuerDoc()}})
	token := sign("RS256", object{"kid": "r"}, good(object{"account": 9007199254740993}), private().rsa)
	got, err := v.Token([]byte(token), nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	if n := fmt.Sprint(got.Principal.Claims["account"]); n != "9007199254740993" {
		t.Errorf("account %s", n)
	}
}
