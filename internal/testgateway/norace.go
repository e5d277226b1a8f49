//go:build !race

package testgateway

const race = false
