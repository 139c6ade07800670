package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"
)

// savedValue is one file in CacheDir: the last good value of one key in one store. Store and Key make sure that a file is used for
// nothing else.
type savedValue struct {
	Format   int       `json:"format"`
	Store    string    `json:"store"`
	Key      string    `json:"key"`
	Saved    time.Time `json:"saved"`
	Absent   bool      `json:"absent,omitempty"`
	Data     []byte    `json:"data"`
	Revision uint64    `json:"revision,omitempty"`
}

// maxSavedValue is the largest such file, in bytes: a value in base64 with what is around it.
const maxSavedValue = MaxValueSize/3*4 + 8<<10

// savedValuePath has a hash for the key, which may be longer than the name of a file. No service has the name _value.
func (r *Registry) savedValuePath(key string) string {
	sum := sha256.Sum256([]byte(r.String() + "\x00" + key))
	return filepath.Join(r.opts.CacheDir, "_value-"+hex.EncodeToString(sum[:16])+".json")
}

// loadValue returns the last good value of an earlier process, or nil if there is no usable file.
func (r *Registry) loadValue(key string) *lastValue {
	if r.opts.CacheDir == "" {
		return nil
	}
	path := r.savedValuePath(key)
	file, err := readSavedValue(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = r.checkSavedValue(file, key)
	}
	if err != nil {
		r.opts.Logger.Warn("rollcall: a cache file is ignored", "file", path, "error", shortened(err))
		return nil
	}
	last := &lastValue{since: file.Saved, origin: FromDisk}
	if !file.Absent {
		last.value = &Value{Key: key, Data: append([]byte{}, file.Data...), Revision: file.Revision}
	}
	return last
}

func readSavedValue(path string) (*savedValue, error) {
	f, err := openSaved(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSavedValue+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > maxSavedValue:
		return nil, fmt.Errorf("it has more than %d bytes", maxSavedValue)
	}
	file := new(savedValue)
	return file, json.Unmarshal(content, file)
}

func (r *Registry) checkSavedValue(file *savedValue, key string) error {
	switch {
	case file.Format != savedFormat:
		return fmt.Errorf("format %d, not %d", file.Format, savedFormat)
	case file.Store != r.String() || file.Key != key:
		return errors.New("it is for another store or key")
	case file.Saved.IsZero():
		return errors.New("it does not say when it was saved")
	case file.Data == nil && !file.Absent:
		return errors.New("it has no data")
	}
	return checkValue(file.Data)
}

// save writes the newest value to CacheDir. A failure is logged: the cache is there for a bad day, and must not cause one.
func (f *valueFeed) save() {
	if f.r.opts.CacheDir == "" {
		return
	}
	f.saving.Lock()
	defer f.saving.Unlock()
	st, _ := f.now()
	file := savedValue{Format: savedFormat, Store: f.r.String(), Key: f.key, Saved: time.Now().UTC(), Absent: st.value == nil}
	if st.value != nil {
		file.Data, file.Revision = st.value.Data, st.value.Revision
	}
	path := f.r.savedValuePath(f.key)
	err := writeFile(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(file) })
	if err != nil {
		f.r.opts.Logger.Warn("rollcall: a value was not saved to disk", "file", path, "error", err)
	}
}
