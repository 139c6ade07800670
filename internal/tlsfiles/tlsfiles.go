// Package tlsfiles reads the TLS settings of the backends, and the files that they name, for each connection anew: files that are
// replaced while the program runs need no restart. An open connection stays as it is, and the next one uses the files of that moment.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/registry"
)

// Settings has the fields of the type TLS of each backend, so that one converts to the other. The fields are documented there.
type Settings struct {
	Enable                                        bool
	CAFile, CAPath, CertFile, KeyFile, ServerName string
	InsecureSkipVerify                            bool
}

// On reports whether the settings turn TLS on.
func (s Settings) On() bool { return s != Settings{} }

// Validate returns an error that wraps registry.ErrInvalid and names the fields that exclude or need each other. It reads no files.
// backend comes before the fields in its text.
func (s Settings) Validate(backend string) error {
	var errs []error
	if s.CAFile != "" && s.CAPath != "" {
		errs = append(errs, fmt.Errorf("%w: %s: TLS.CAFile and TLS.CAPath (ca-file, ca-path) exclude each other", registry.ErrInvalid, backend))
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		errs = append(errs, fmt.Errorf("%w: %s: TLS.CertFile and TLS.KeyFile (cert-file, key-file) need each other, and one of them is not set", registry.ErrInvalid, backend))
	}
	return oneline.Join(errs...)
}

// Files are the files of Settings. They are safe for concurrent use.
type Files struct {
	backend  string
	settings Settings

	mu     sync.Mutex
	last   *tls.Config
	failed string // the reason that was reported last; "" if the files can be used
	report func(error)
}

// Open reads the files. The error wraps registry.ErrInvalid and names the field; backend comes before it in the text.
func Open(backend string, s Settings) (*Files, error) {
	if err := s.Validate(backend); err != nil {
		return nil, err
	}
	f := &Files{backend: backend, settings: s, report: func(error) {}}
	var err error
	if f.last, err = f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Subscribe makes f report each new reason why the files cannot be used, once. report must not block or use f.
func (f *Files) Subscribe(report func(error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report = report
}

// Config returns the certificates in the files. If the files cannot be used, it returns the last good ones, and the reason: a
// certificate and its key are two files, which are not replaced in the same moment. The caller owns the result.
func (f *Files) Config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conf, err := f.load()
	if err == nil {
		f.last, f.failed = conf, ""
	} else if f.failed != err.Error() {
		f.failed = err.Error()
		f.report(fmt.Errorf("certificate files unusable, keeping the last good ones: %w", err))
	}
	return f.last.Clone(), err
}

// Explain adds to the error of a handshake that the files could not be used, if unusable is not nil.
func Explain(handshake, unusable error) error {
	if handshake == nil || unusable == nil {
		return handshake
	}
	return fmt.Errorf("%w (with the last good certificates, since the files cannot be used: %w)", handshake, unusable)
}

// load reads the files. Without a ServerName, the connection sets the name of its host.
func (f *Files) load() (*tls.Config, error) {
	s := f.settings
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName, InsecureSkipVerify: s.InsecureSkipVerify}
	if host, _, err := net.SplitHostPort(s.ServerName); err == nil {
		conf.ServerName = host
	}
	var err error
	switch {
	case s.CAFile != "":
		conf.RootCAs = x509.NewCertPool()
		err = f.named("TLS.CAFile (ca-file)", addFile(conf.RootCAs, s.CAFile))
	case s.CAPath != "":
		conf.RootCAs = x509.NewCertPool()
		err = f.named("TLS.CAPath (ca-path)", addFolder(conf.RootCAs, s.CAPath))
	}
	if err != nil {
		return nil, err
	}
	if s.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, f.named("TLS.CertFile and TLS.KeyFile (cert-file, key-file)", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func (f *Files) named(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %s: %w", registry.ErrInvalid, f.backend, field, err)
}

func addFile(pool *x509.CertPool, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s has no PEM certificate", strconv.Quote(path))
	}
	return nil
}

// addFolder adds the files of a folder and of the folders in it. A link to a folder is passed over: a mounted secret of Kubernetes
// has one beside its files.
func addFolder(pool *x509.CertPool, path string) error {
	files := 0
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := os.Stat(name); err != nil || info.IsDir() {
			return err
		}
		files++
		return addFile(pool, name)
	})
	if err == nil && files == 0 {
		err = fmt.Errorf("%s has no files", strconv.Quote(path))
	}
	return err
}
