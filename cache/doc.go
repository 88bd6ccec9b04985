// Package cache stores files and folders by the BLAKE3 hash of their content, and results by key.
//
// What it promises:
//
//   - A name is visible only when its content is durable: temporary file, sync, rename (or link), sync of the
//     folder. A crash or a full disk leaves what was there, and garbage that GC removes.
//   - Content is never returned under a wrong name. An object whose stat differs from its record is hashed
//     again before it is used, and set aside if it is not what its name says.
//   - Nothing is hashed twice: State remembers, and never trusts a timestamp that a later write could repeat.
//
// Read first: cache.go for the folder, add.go for the way of a file into it and place.go for the way back.
// The formats are specified byte by byte in doc/format.md.
package cache
