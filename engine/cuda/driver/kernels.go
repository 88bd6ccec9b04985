//go:build cuda

package driver

import _ "embed"

// The kernel files, compiled by tools/cuda/kernels.sh for sm_80, sm_90a and, as PTX, for what comes later.
var (
	//go:embed fatbin/attention.fatbin
	attentionImage string
	//go:embed fatbin/attention_mma.fatbin
	attentionMMAImage string
	//go:embed fatbin/convert.fatbin
	convertImage string
	//go:embed fatbin/elementwise.fatbin
	elementwiseImage string
	//go:embed fatbin/gemm.fatbin
	gemmImage string
	//go:embed fatbin/head.fatbin
	headImage string
	//go:embed fatbin/norm.fatbin
	normImage string
)

// images are all of them, by the name of the file.
func images() map[string]string {
	return map[string]string{
		"attention": attentionImage, "attention_mma": attentionMMAImage, "convert": convertImage, "elementwise": elementwiseImage,
		"gemm": gemmImage, "head": headImage, "norm": normImage,
	}
}
