//go:build !race

package invoicing_test

const raced = false
