package identity

import "math/big"

// rocaPrimes are the odd primes that divide the generator's constant for every
// length of key.
var rocaPrimes = [...]uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149,
	151, 157, 163, 167,
}

// roca reports whether an RSA modulus comes from the generator of Infineon's
// smart cards, whose primes are powers of 65537 modulo a product of small
// primes: Nemec et al., "The Return of Coppersmith's Attack", CCS 2017,
// section 2. Such a key of 2048 bits has been factored. An honest modulus
// looks so with a chance of about 2^-27.
func roca(n *big.Int) bool {
	var rest big.Int
	for _, p := range rocaPrimes {
		have := rest.Mod(n, new(big.Int).SetUint64(p)).Uint64()
		power := uint64(1)
		for power != have {
			if power = power * 65537 % p; power == 1 {
				return false
			}
		}
	}
	return true
}
