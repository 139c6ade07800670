package registry

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteFile_ReportsTwoFailuresOnOneLine(t *testing.T) {
	full := errors.New("disk full")
	dir := t.TempDir()
	err := writeFile(filepath.Join(dir, "file"), func(w io.Writer) error {
		w.(io.Closer).Close() // so that writeFile cannot close it
		return full
	})
	if !errors.Is(err, full) || !errors.Is(err, os.ErrClosed) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %q, want both failures on one line", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("these files remain: %v (error: %v)", left, err)
	}
}
