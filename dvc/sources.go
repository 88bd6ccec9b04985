package dvc

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// dvcFile makes a source of what a .dvc file tracks.
func (c *converter) dvcFile(at string) error {
	var file struct {
		Cmd  string `yaml:"cmd"`
		Deps []struct {
			Path string `yaml:"path"`
			Repo *struct {
				URL string `yaml:"url"`
			} `yaml:"repo"`
		} `yaml:"deps"`
		Outs []struct {
			Path string `yaml:"path"`
			MD5  string `yaml:"md5"`
			Desc string `yaml:"desc"`
		} `yaml:"outs"`
		Wdir string `yaml:"wdir"`
	}
	node, err := c.readYAML(at)
	if err == nil {
		err = node.Decode(&file)
	}
	if err != nil {
		return err
	}
	if file.Cmd != "" {
		c.note(at, "dvc repro of an old project wrote it: write a stage with this command by hand", "a stage of DVC before 1.0: %s", file.Cmd)
	}
	for _, out := range file.Outs {
		to := join(join(path.Dir(at), file.Wdir), out.Path)
		name := c.unique(strings.TrimSuffix(path.Base(to), path.Ext(to)), c.sources)
		c.tracked[to] = name
		c.track(to, out.MD5)
		fmt.Fprintf(&c.out, "source %q { path = %s }\n", name, quote(to))
		for _, dep := range file.Deps {
			switch {
			case dep.Repo != nil:
				c.note(at, "lpipe tracks the files as they are here; to move on, put newer ones in their place", "import of %s from the repository %s", dep.Path, dep.Repo.URL)
			case strings.Contains(dep.Path, "://"):
				c.note(at, "lpipe tracks the file as it is here; to download it, write `"+downloaded(dep.Path)+"` in source "+name+" instead of path, which then is .lpipe/sources/"+name,
					"import-url of %s", dep.Path)
			}
		}
	}
	if len(file.Outs) > 0 {
		c.out.WriteString("\n")
	}
	return nil
}

func downloaded(address string) string {
	if strings.HasPrefix(address, "s3://") {
		return "s3 = " + quote(address)
	}
	return "url = " + quote(address)
}

func (c *converter) track(at, md5 string) {
	if md5 != "" && !outside(at) {
		c.tracks = append(c.tracks, Tracked{Path: at, MD5: md5})
	}
}

// readLock collects the hashes of outputs in a dvc.lock.
func (c *converter) readLock(at string) {
	node, err := c.readYAML(at)
	if err != nil {
		return
	}
	type stages map[string]struct {
		Outs []struct {
			Path string `yaml:"path"`
			MD5  string `yaml:"md5"`
		} `yaml:"outs"`
	}
	var file struct {
		Stages stages `yaml:"stages"`
	}
	if node.Decode(&file) != nil || len(file.Stages) == 0 {
		if node.Decode(&file.Stages) != nil { // before 2.0 stages stood at the top
			c.note(at, "none: outputs that stand here are accepted by lpipe commit", "a lock that cannot be read")
			return
		}
	}
	for _, name := range sortedKeys(file.Stages) {
		for _, out := range file.Stages[name].Outs {
			c.track(join(path.Dir(at), out.Path), out.MD5)
		}
	}
}

// remotes reads .dvc/config, and config.local over it.
func (c *converter) remotes() (blocks, settings string) {
	config := map[string]map[string]string{}
	for _, name := range []string{"config", "config.local"} {
		c.readConfig(".dvc/"+name, config)
	}
	var b strings.Builder
	written := map[string]string{} // DVC's name -> the block's
	for _, section := range sortedKeys(config) {
		name, ok := strings.CutPrefix(section, "remote ")
		if !ok {
			continue
		}
		name = strings.Trim(name, `"`)
		if block, text := c.remote(name, config[section]); text != "" {
			b.WriteString(text)
			written[name] = block
		}
	}
	var lines []string
	if block := written[config["core"]["remote"]]; len(written) > 1 && block != "" {
		lines = append(lines, "  remote = "+quote(block)+"\n")
	}
	if types := config["cache"]["type"]; types != "" {
		var links []string
		for _, one := range strings.Split(types, ",") {
			links = append(links, quote(strings.TrimSpace(one)))
		}
		lines = append(lines, "  link = ["+strings.Join(links, ", ")+"]\n")
	}
	if dir := config["cache"]["dir"]; dir != "" {
		c.note(".dvc/config", "lpipe { cache = \"...\" } or LPIPE_CACHE names a folder that projects share; DVC's and lpipe's caches do not mix", "cache.dir %s", dir)
	}
	if len(lines) > 0 {
		settings = "lpipe {\n" + strings.Join(lines, "") + "}\n"
	}
	return b.String(), settings
}

// remote writes a block; text is empty if there is no such remote here.
func (c *converter) remote(name string, config map[string]string) (block, text string) {
	at, err := url.Parse(config["url"])
	switch {
	case err == nil && at.Scheme == "s3":
		block = c.unique(name, c.remoted)
		var b strings.Builder
		fmt.Fprintf(&b, "remote \"s3\" %q {\n  bucket = %s\n  prefix = %s # beside what DVC stored: neither reads the other's\n", block, quote(at.Host),
			quote(path.Join(strings.Trim(at.Path, "/"), "lpipe")))
		for _, one := range [][2]string{{"region", "region"}, {"endpointurl", "endpoint"}, {"profile", "profile"}} {
			if value := config[one[0]]; value != "" {
				fmt.Fprintf(&b, "  %s = %s\n", one[1], quote(value))
			}
		}
		return block, b.String() + "}\n"
	case err == nil && at.Scheme == "" && config["url"] != "":
		to := config["url"]
		if !filepath.IsAbs(to) {
			to = path.Join(".dvc", to)
		}
		block = c.unique(name, c.remoted)
		return block, fmt.Sprintf("remote \"dir\" %q { path = %s }\n", block, quote(path.Join(to, "lpipe")))
	}
	where := config["url"]
	if err == nil {
		where = at.Redacted() // a password may stand in it
	}
	c.note(".dvc/config", "dvc pull once, then lpipe add and lpipe push to an S3 bucket or a folder: remote \"s3\" or \"dir\"", "the remote %s at %s", name, where)
	return "", ""
}

// readConfig reads a file of Git's syntax.
func (c *converter) readConfig(at string, into map[string]map[string]string) {
	f, err := os.Open(filepath.Join(c.dir, filepath.FromSlash(at)))
	if err != nil {
		return
	}
	defer f.Close()
	section := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			section = strings.Trim(strings.Trim(line, "[]"), `'`)
		default:
			if name, value, ok := strings.Cut(line, "="); ok {
				if into[section] == nil {
					into[section] = map[string]string{}
				}
				into[section][strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
	}
}
