//go:build race

package testgateway

const race = true
