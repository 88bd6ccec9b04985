// Package remote shares a cache through a bucket: S3, or a folder.
//
// What it promises:
//
//   - What can be found is whole: objects are stored before the index that names them, the index before the
//     results. An interrupted push leaves garbage that GC removes, never a promise that cannot be kept.
//   - Nothing is believed: every object, index and result is hashed when it arrives.
//   - Few requests: small objects travel in packs, and one listing tells what a bucket holds. A push with
//     nothing to do is one request.
//
// Read first: bucket.go for what a bucket must do, push.go and fetch.go for the two ways. The formats are
// specified in doc/format.md.
package remote
