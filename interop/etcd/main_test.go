package etcd_test

import (
	"io"
	"os"
	"testing"

	kratoslog "github.com/go-kratos/kratos/v2/log"
	"github.com/zeromicro/go-zero/core/logx"
)

func TestMain(m *testing.M) {
	logx.Disable()
	kratoslog.SetLogger(kratoslog.NewStdLogger(io.Discard))
	os.Exit(m.Run())
}
