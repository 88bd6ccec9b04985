//go:build unix && !linux

package cpu

func preferHugePages(mapping) {}

const noReserve = 0
