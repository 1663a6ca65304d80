// A login system that a test can set: a file, a server and a socket of its own, gone afterwards.
package kit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const key = "a-key-for-tests"

type login struct {
	t      *testing.T
	folder string
	client *http.Client
}

func command(folder string, args ...string) *exec.Cmd {
	cmd := exec.Command("sessile", args...)
	cmd.Dir = folder
	return cmd
}

func sessile(t *testing.T) *login {
	folder, err := os.MkdirTemp("", "sessile-") // t.TempDir() may be too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "sock")
	config := fmt.Sprintf("mode = \"development\"\nserver.listen = \"unix:%s\"\n"+
		"[[auth.keys]]\nname = \"tests\"\nkey = \"%s\"\n", socket, key)
	if err := os.WriteFile(filepath.Join(folder, "sessile.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(folder, "init").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := command(folder, "serve")
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Signal(os.Interrupt); server.Wait() })
	bufio.NewReader(stdout).ReadString('\n') // "listening on …": from here on it answers
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial}
	return &login{t, folder, &http.Client{Transport: transport, Timeout: 5 * time.Second}}
}

// Takes sessions in, one JSON object a line, with instants relative to now.
func (l *login) sessions(lines string) {
	cmd := command(l.folder, "import", "-")
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
}

func (l *login) active(tenant, user, now string) int {
	target := "http://localhost/internal/session/sessions/" + url.PathEscape(user) + "/active"
	request, _ := http.NewRequest(http.MethodGet, target, nil)
	request.Header.Set("X-API-Key", key)
	request.Header.Set("X-Tenant-ID", tenant)
	if now != "" {
		request.Header.Set("X-Sessile-Now", now)
	}
	response, err := l.client.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Count int `json:"session_count"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != 200 {
		l.t.Fatal(response.Status, err)
	}
	return answer.Count
}

func TestASessionEndsAtItsDeadline(t *testing.T) {
	l := sessile(t)
	l.sessions(`{"tenant_id":"acme","id":"s1","user_id":"alice","expires_in":"1h"}
{"tenant_id":"acme","id":"s2","user_id":"alice","expires_in":"-1s"}
{"tenant_id":"acme","id":"s3","user_id":"bob","expires_at":"2030-01-01T00:00:00Z"}`)
	for _, one := range []struct {
		user, now string
		count     int
	}{
		{"alice", "", 1},
		{"bob", "2029-12-31T23:59:59.999Z", 1},
		{"bob", "2030-01-01T00:00:00Z", 0},
	} {
		if count := l.active("acme", one.user, one.now); count != one.count {
			t.Errorf("%v: %d", one, count)
		}
	}
}
