package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// savedFormat is the version of the files in CacheDir. A file of another version is ignored.
const savedFormat = 1

// savedSet is one file in CacheDir: the last good set of one query to one store.
type savedSet struct {
	instances []*Instance
	at        time.Time
	patience  time.Duration // how long a feed waits for its first answer before it offers this set
}

// savedFile is its form on disk. Store and Query make sure that a file is used for nothing else.
type savedFile struct {
	Format    int         `json:"format"`
	Store     string      `json:"store"`
	Query     Query       `json:"query"`
	Saved     time.Time   `json:"saved"`
	Instances []*Instance `json:"instances"`
}

const firstAnswerPatience = time.Second

var errNoAnswer = fmt.Errorf("%w: no answer for %v", ErrUnavailable, firstAnswerPatience)

// savedPath names the service for those who look into the folder, and all else by a hash: case does not count in every
// file system, and a query may hold any character.
func (r *Registry) savedPath(q Query) string {
	sum := sha256.Sum256([]byte(r.String() + "\x00" + q.key()))
	return filepath.Join(r.opts.CacheDir, q.Service+"-"+hex.EncodeToString(sum[:8])+".json")
}

// loadSaved returns the last good set of an earlier process, and nil where there is none to be had.
func (r *Registry) loadSaved(q Query) *savedSet {
	if r.opts.CacheDir == "" {
		return nil
	}
	path := r.savedPath(q)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file savedFile
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err == nil {
		err = r.checkSaved(&file, q)
	}
	if err != nil {
		r.opts.Logger.Warn("rollcall: a cache file is ignored", "file", path, "error", err)
		return nil
	}
	return &savedSet{instances: file.Instances, at: file.Saved, patience: firstAnswerPatience}
}

func (r *Registry) checkSaved(file *savedFile, q Query) error {
	switch {
	case file.Format != savedFormat:
		return fmt.Errorf("format %d, not %d", file.Format, savedFormat)
	case file.Store != r.String() || file.Query.key() != q.key():
		return errors.New("it is for another store or query")
	case file.Saved.IsZero():
		return errors.New("it does not say when it was saved")
	}
	for i, in := range file.Instances {
		if in == nil || in.Service != q.Service || in.Address == "" {
			return fmt.Errorf("instance %d of it is incomplete", i)
		}
	}
	return nil
}

// fromDisk returns the saved set of q beside err, which says so, and err alone where there is none.
func (r *Registry) fromDisk(q Query, err error) ([]*Instance, error) {
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrClosed) {
		return nil, err
	}
	saved := r.loadSaved(q.wide())
	if saved == nil {
		return nil, err
	}
	set, _ := merge(nil, saved.instances, q)
	return set, saved.beside(err)
}

// beside returns err with the news that the set beside it is s.
func (s *savedSet) beside(err error) error {
	return fmt.Errorf("%w; the instances are from disk, saved %s", err, s.at.Format(time.RFC3339))
}

// save writes the set to CacheDir. Whoever comes last writes the newest: a set that is believed at last may be followed by another
// before it is on disk.
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
	b, err := json.Marshal(savedFile{Format: savedFormat, Store: r.String(), Query: q, Saved: time.Now().UTC(), Instances: set})
	if err == nil {
		err = writeFile(path, b)
	}
	if err != nil {
		r.opts.Logger.Warn("rollcall: a set was not saved to disk", "file", path, "error", err)
	}
}

// writeFile replaces the file as one step, so that another process never reads half of it. It does not wait for the
// disk: after a power cut a torn file is possible, and is recognised as it is read. Metadata may be private, so only
// the user may read it.
func writeFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".saving-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
