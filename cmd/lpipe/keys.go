package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/remote"
	"lpipe/runner"
)

// The keys that sign results at a remote: a private one in a file of its owner's, public ones in pipeline.hcl.

// signingKey is the environment variable that names the private key's file.
const signingKey = "LPIPE_SIGNING_KEY"

func (p *program) keysCommand() *cli.Command {
	return &cli.Command{
		Name: "keys", Category: categoryRemote, Usage: "make and show keys that sign results at a remote",
		Description: "A remote block with trust = [\"ed25519:…\", \"team.keys\"] takes results only if one of these keys signed them; an entry is a\n" +
			"public key, or a file with one on each line. With the private key in the file that " + signingKey + " names,\n" +
			"push signs the results that were made here, and those of them that stand at the remote unsigned.",
		Subcommands: []*cli.Command{
			{Name: "new", Usage: "make a private key in a new file, print the public one", ArgsUsage: "FILE", Action: p.newKey},
			{Name: "show", Usage: "print the public key of a private one", ArgsUsage: "[FILE]", Action: p.showKey},
		},
	}
}

func (p *program) newKey(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef("keys new needs the name of the file to make, one that Git does not keep: lpipe keys new ~/.config/lpipe/key.pem")
	}
	path := p.path(c.Args().First())
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already; a key is never overwritten: choose another name", path)
	}
	if err != nil {
		return err
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return err
	}
	p.result("%s", remote.FormatKey(private.Public().(ed25519.PublicKey)))
	p.say("the private key is in %s: name it in %s where you push from, and add the line above to trust in the remote block", path, signingKey)
	return nil
}

func (p *program) showKey(c *cli.Context) error {
	path := p.getenv(signingKey)
	if c.NArg() > 0 {
		path = p.path(c.Args().First())
	}
	if path == "" {
		return usagef("name the private key's file, or set %s", signingKey)
	}
	private, err := readSigningKey(path)
	if err != nil {
		return err
	}
	p.result("%s", remote.FormatKey(private.Public().(ed25519.PublicKey)))
	return nil
}

// readSigningKey reads a private key as `keys new` and `openssl genpkey -algorithm ed25519` write it.
func readSigningKey(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("read the private key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, usagef("%s holds no private key in PEM; lpipe keys new FILE makes one", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, usagef("%s holds no Ed25519 key; lpipe keys new FILE makes one", path)
	}
	return private, nil
}

// trust gives the public keys that a remote block names.
func (p *program) trust(pipeline *runner.Pipeline, block *runner.RemoteBlock) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, entry := range block.Trust {
		lines := []string{entry}
		if !strings.HasPrefix(entry, "ed25519:") {
			path := filepath.FromSlash(entry)
			if !filepath.IsAbs(path) {
				path = filepath.Join(pipeline.Dir, path)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, usagef("remote %s: read the keys that it trusts: %w", block.Name, err)
			}
			lines = strings.Split(string(data), "\n")
		}
		for i, line := range lines {
			text, _, _ := strings.Cut(line, "#")
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			key, err := remote.ParseKey(text)
			if err != nil {
				return nil, usagef("remote %s: trust, %s, line %d: %w", block.Name, entry, i+1, err)
			}
			keys = append(keys, key)
		}
	}
	if len(block.Trust) > 0 && len(keys) == 0 {
		// An empty list would trust everybody: the opposite of what was meant.
		return nil, usagef("remote %s: %s name no key", block.Name, joinNames(block.Trust))
	}
	return keys, nil
}

// signWith makes a push sign what it sends, and says where nobody would use it.
func (p *program) signWith(r *remote.Remote, trusted []ed25519.PublicKey) error {
	path := p.getenv(signingKey)
	if path == "" {
		if len(trusted) > 0 {
			p.warn("%s is not set, so results are sent unsigned, and who trusts only the keys of the remote block does not use them", signingKey)
		}
		return nil
	}
	private, err := readSigningKey(path)
	if err != nil {
		return err
	}
	public := private.Public().(ed25519.PublicKey)
	ours := false
	for _, k := range trusted {
		ours = ours || public.Equal(k)
	}
	if !ours && len(trusted) > 0 {
		p.warn("%s is not among the keys that the remote block trusts: results signed with it are not used", remote.FormatKey(public))
	}
	r.SignWith(private)
	return nil
}
