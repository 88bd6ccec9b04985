package dataset

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// textOf says how the values of a leaf that are no plain texts and numbers are written: by its logical type, as the
// format's LogicalTypes.md defines them. Nil: as the physical type says.
func textOf(c *parquet.Column, element *format.SchemaElement) func(parquet.Value) Value {
	if c.Type().Kind() == parquet.Int96 { // Impala's and Spark's times, before there were logical types
		return func(v parquet.Value) Value {
			raw := v.Int96()
			const julianEpoch = 2440588
			nanos := int64(raw[0]) | int64(raw[1])<<32
			return stamp(time.Unix((int64(raw[2])-julianEpoch)*86400, nanos), false)
		}
	}
	logical := element.LogicalType.Value
	if known := c.Type().LogicalType(); logical == nil && known != nil {
		logical = known.Value
	}
	switch t := logical.(type) {
	case *format.DecimalType:
		return func(v parquet.Value) Value { return Value{Shape: Number, Text: decimal(v, int(t.Scale))} }
	case *format.DateType:
		return func(v parquet.Value) Value {
			return Value{Shape: Text, Text: time.Unix(int64(v.Int32())*86400, 0).UTC().Format(time.DateOnly)}
		}
	case *format.TimeType:
		unit := nanosOf(t.Unit)
		return func(v parquet.Value) Value {
			at := time.Unix(0, integer(v)*unit).UTC()
			return Value{Shape: Text, Text: at.Format("15:04:05.999999999")}
		}
	case *format.TimestampType:
		unit := nanosOf(t.Unit)
		second := int64(time.Second) / unit
		return func(v parquet.Value) Value {
			n := v.Int64() // in nanoseconds it may not fit 64 bits
			return stamp(time.Unix(n/second, n%second*unit), t.IsAdjustedToUTC)
		}
	case *format.IntType:
		if !t.IsSigned {
			return func(v parquet.Value) Value {
				n := uint64(integer(v))
				if v.Kind() == parquet.Int32 {
					n = uint64(v.Uint32())
				}
				return Value{Shape: Number, Text: strconv.FormatUint(n, 10)}
			}
		}
	case *format.UUIDType:
		return func(v parquet.Value) Value { return Value{Shape: Text, Text: v.String()} }
	case *format.Float16Type:
		return func(v parquet.Value) Value {
			return Value{Shape: Number, Text: strconv.FormatFloat(float64(half(binary.LittleEndian.Uint16(v.ByteArray()))), 'g', -1, 32)}
		}
	}
	return nil
}

// integer is a value of INT32 or INT64.
func integer(v parquet.Value) int64 {
	if v.Kind() == parquet.Int32 {
		return int64(v.Int32())
	}
	return v.Int64()
}

func nanosOf(unit format.TimeUnit) int64 {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return 1e6
	case *format.MicroSeconds:
		return 1e3
	}
	return 1
}

// stamp is a time as RFC 3339 has it, without a zone where the file says of none.
func stamp(at time.Time, zone bool) Value {
	layout := "2006-01-02T15:04:05.999999999"
	if zone {
		layout += "Z07:00"
	}
	return Value{Shape: Text, Text: at.UTC().Format(layout)}
}

// decimal is an unscaled integer with its point: bytes are big-endian two's complement.
func decimal(v parquet.Value, scale int) string {
	n := new(big.Int)
	switch v.Kind() {
	case parquet.Int32, parquet.Int64:
		n.SetInt64(integer(v))
	default:
		raw := v.ByteArray()
		n.SetBytes(raw)
		if len(raw) > 0 && raw[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
		}
	}
	sign := ""
	if n.Sign() < 0 {
		sign = "-"
	}
	digits := new(big.Int).Abs(n).String()
	if scale <= 0 {
		return sign + digits
	}
	if pad := scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// half is IEEE 754's binary16.
func half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, h>>10&0x1f, uint32(h&0x3ff)
	switch exponent {
	case 0: // subnormal: a multiple of 2^-24
		value := float32(fraction) / (1 << 24)
		if sign != 0 {
			value = -value
		}
		return value
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (uint32(exponent)+112)<<23 | fraction<<13)
}
