//go:build !amd64

package cpu

func amxKernel() (*kernel, error) { return nil, errNoAMX }
