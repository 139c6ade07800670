package registry

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/rollcall-go/rollcall/internal/oneline"
)

// savedFormat is the version of the files in CacheDir. A file of another version is ignored.
const savedFormat = 1

// savedFile is one file in CacheDir: the last good set of one query to one store. Store and Query make sure that a file is used for
// nothing else.
type savedFile struct {
	Format    int         `json:"format"`
	Store     string      `json:"store"`
	Query     Query       `json:"query"`
	Saved     time.Time   `json:"saved"`
	Instances []*Instance `json:"instances"`
}

// maxSavedID is the longest ID that a driver returns, in bytes.
const maxSavedID = 1024

// savedPath has the name of the service, for people who look into the folder, and a hash for the rest: some file systems ignore case,
// and a query may contain any character.
func (r *Registry) savedPath(q Query) string {
	sum := sha256.Sum256([]byte(r.String() + "\x00" + q.key()))
	return filepath.Join(r.opts.CacheDir, q.Service+"-"+hex.EncodeToString(sum[:8])+".json")
}

// loadSaved returns the last good set of an earlier process, or nil if no file has a usable set.
func (r *Registry) loadSaved(q Query) *lastGood {
	if r.opts.CacheDir == "" {
		return nil
	}
	path := r.savedPath(q)
	f, err := openSaved(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file *savedFile
	if err == nil {
		defer f.Close()
		file, err = readSaved(r.saves, f, q)
	}
	if err == nil {
		err = r.checkSaved(file, q)
	}
	if err != nil {
		r.opts.Logger.Warn("rollcall: a cache file is ignored", "file", path, "error", shortened(err))
		return nil
	}
	return &lastGood{instances: file.Instances, since: file.Saved, origin: FromDisk}
}

// shortened returns the text of err for the log: it may quote what others wrote to the file.
func shortened(err error) string {
	text := err.Error()
	if len(text) > maxSavedError {
		text = strings.ToValidUTF8(text[:maxSavedError], "") + "…"
	}
	return text
}

// The bounds of a cache file, in bytes. Others may write to the folder.
const (
	maxSavedFile   = 128 << 20
	maxSavedMember = 1 << 20 // one member of the file, except the list of instances; also one instance
	maxSavedError  = 500     // the text of an error about the file in a log line
)

// openSaved opens a cache file. It refuses a named pipe and a device, which might never end.
func openSaved(path string) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > maxSavedFile:
		return nil, fmt.Errorf("it has more than %d bytes", maxSavedFile)
	}
	return os.Open(path)
}

// readSaved decodes and checks one instance after another, so that it stops at the first bad one, and if ctx ends.
func readSaved(ctx context.Context, from io.Reader, q Query) (*savedFile, error) {
	var file savedFile
	d := json.NewDecoder(io.LimitReader(from, maxSavedFile))
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch name {
		case "format":
			err = decodeSaved(d, &file.Format)
		case "store":
			err = decodeSaved(d, &file.Store)
		case "query":
			err = decodeSaved(d, &file.Query)
		case "saved":
			err = decodeSaved(d, &file.Saved)
		case "instances":
			file.Instances, err = readSavedInstances(ctx, d, q)
		default:
			err = decodeSaved(d, new(json.RawMessage))
		}
		if err != nil {
			return nil, err
		}
	}
	return &file, expect(d, json.Delim('}'))
}

func readSavedInstances(ctx context.Context, d *json.Decoder, q Query) ([]*Instance, error) {
	if err := expect(d, json.Delim('[')); err != nil {
		return nil, err
	}
	set := []*Instance{}
	for d.More() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var in *Instance
		err := decodeSaved(d, &in)
		if err == nil {
			err = checkSavedInstance(in, q)
		}
		if err != nil {
			return nil, fmt.Errorf("instance %d of it: %w", len(set), err)
		}
		set = append(set, in)
	}
	return set, expect(d, json.Delim(']'))
}

// decodeSaved decodes the next value, unless it is too large.
func decodeSaved(d *json.Decoder, to any) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	if len(raw) > maxSavedMember {
		return fmt.Errorf("a value in it has more than %d bytes", maxSavedMember)
	}
	return json.Unmarshal(raw, to)
}

// expect reads one token.
func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = fmt.Errorf("it has %v, not %v", got, want)
	}
	return err
}

func (r *Registry) checkSaved(file *savedFile, q Query) error {
	switch {
	case file.Format != savedFormat:
		return fmt.Errorf("format %d, not %d", file.Format, savedFormat)
	case file.Store != r.String() || file.Query.key() != q.key():
		return errors.New("it is for another store or query")
	case file.Instances == nil:
		return errors.New("it has no list of instances")
	case file.Saved.IsZero():
		return errors.New("it does not say when it was saved")
	}
	return nil
}

// checkSavedInstance checks what calls depend on, since others may write to the folder. IDs and tags may come from other tools, and
// drivers return them as they are: Nomad's IDs begin with '_', and Consul accepts empty tags.
func checkSavedInstance(in *Instance, q Query) error {
	switch {
	case in == nil:
		return errors.New("it is null")
	case in.Service != q.Service:
		return invalid("Service", in.Service, fmt.Sprintf("differs from the query, %q", q.Service))
	case in.ID == "":
		return missing("ID")
	case len(in.ID) > maxSavedID:
		return fmt.Errorf("%w: ID: has %d bytes, more than %d", ErrInvalid, len(in.ID), maxSavedID)
	case strings.ContainsFunc(in.ID, unicode.IsControl):
		return invalid("ID", in.ID, "has a control character")
	}
	checked := *in
	checked.ID, checked.Tags = "", nil
	checked.Weight = max(in.Weight, 0) // what is drained is read with a weight of -1
	if in.Weight < -1 {
		return invalid("Weight", in.Weight, fmt.Sprintf("is not from -1 to %d", maxWeight))
	}
	return checked.Validate()
}

// save writes the set to CacheDir. It locks, so that concurrent saves run in turn and each writes the newest set. Otherwise a suspect set
// that is published after its grace period could overwrite a newer set.
func (f *feed) save() {
	f.saving.Lock()
	defer f.saving.Unlock()
	now, _ := f.now()
	f.r.save(f.query, now.all.set)
}

// save writes set to CacheDir. A failure is logged: the cache is there for a bad day, and must not cause one.
func (r *Registry) save(q Query, set []*Instance) {
	if r.opts.CacheDir == "" {
		return
	}
	path := r.savedPath(q)
	file := savedFile{Format: savedFormat, Store: r.String(), Query: q, Saved: time.Now().UTC(), Instances: set}
	err := writeFile(path, func(w io.Writer) error { return file.write(r.saves, w) })
	if err != nil {
		r.opts.Logger.Warn("rollcall: a set was not saved to disk", "file", path, "error", err)
	}
}

// write writes the JSON form of file to w. It stops between two instances if ctx ends: a set may be huge.
func (file savedFile) write(ctx context.Context, w io.Writer) error {
	set := file.Instances
	file.Instances = []*Instance{}
	head, err := json.Marshal(file)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(w)
	buf.Write(head[:len(head)-len("]}")])
	for i, in := range set {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		if i > 0 {
			buf.WriteByte(',')
		}
		buf.Write(b)
	}
	buf.WriteString("]}")
	return buf.Flush() // which returns the first error of all writes
}

// writeFile replaces the file as one step, so that another process never reads half of it. It does not wait for the
// disk: after a power cut a torn file is possible, and is recognised as it is read. Metadata may be private, so only
// the user may read it.
func writeFile(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".saving-*")
	if err != nil {
		return err
	}
	err = oneline.Join(write(tmp), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
