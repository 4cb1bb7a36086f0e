//go:build !race

package httpproxy_test

const raceDetector = false
