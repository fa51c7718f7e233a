// kube-apiserver's own judgement of a provider file, and its own bytes:
//
//	oracle check FILE                          exit 0, or 1 with the server's words on stderr
//	oracle encrypt FILE RESOURCE KEY <plain    what the server would store under this etcd key
//	oracle decrypt FILE RESOURCE KEY <stored   what it would read; `stale` on stderr: it would write it anew
//	oracle serve                               the same, one JSON line for each JSON line, in the same order:
//	    {"do":"check","text":"…","file":"/what/to/call/it","reload":false,"kmsV1":false}
//	    {"do":"encrypt","text":"…","resource":"secrets","key":"/registry/…","value":"base64"}
//	    {"ok":true,"value":"base64","stale":false} or {"ok":false,"error":"…"}
//
// RESOURCE is `secrets` or `deployments.apps`. A check needs no KMS plugin; encrypt and decrypt want it to answer on
// its socket. `kmsV1` is --feature-gates=KMSv1=true, where there is such a gate. One source for every Kubernetes
// minor: VERSION.mod is the module file, load_*.go what differs.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"
)

type question struct {
	Do, Text, File, Resource, Key string
	Value                         []byte
	Reload                        bool
	KMSV1                         bool `json:"kmsV1"`
	KMSV2                         bool `json:"kmsV2"`
}

type answer struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Value []byte `json:"value,omitempty"`
	Stale bool   `json:"stale"`
}

func main() {
	// What the server says of a file is in its error; its log would only repeat that on stderr.
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			fail(err.Error())
		}
	}
	klog.SetOutput(io.Discard)
	args := os.Args[1:]
	switch {
	case len(args) == 1 && args[0] == "serve":
		serve()
	case len(args) == 2 && args[0] == "check":
		once(args[1], question{Do: "check"})
	case len(args) == 4 && (args[0] == "encrypt" || args[0] == "decrypt"):
		value, err := io.ReadAll(os.Stdin)
		if err != nil {
			fail(err.Error())
		}
		once(args[1], question{Do: args[0], Resource: args[2], Key: args[3], Value: value})
	default:
		fmt.Fprintln(os.Stderr, "usage: oracle check FILE | encrypt|decrypt FILE RESOURCE KEY | serve")
		os.Exit(3)
	}
}

func fail(words string) {
	fmt.Fprintln(os.Stderr, words)
	os.Exit(1)
}

func once(file string, q question) {
	a := judge(file, q)
	if !a.OK {
		fail(a.Error)
	}
	if a.Stale {
		fmt.Fprintln(os.Stderr, "stale")
	}
	os.Stdout.Write(a.Value)
}

func serve() {
	folder, err := os.MkdirTemp("", "oracle-")
	if err != nil {
		fail(err.Error())
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "provider-file")
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var q question
		if err := in.Decode(&q); err == io.EOF {
			return
		} else if err != nil {
			fail(err.Error())
		}
		if err := os.WriteFile(file, []byte(q.Text), 0o600); err != nil {
			fail(err.Error())
		}
		a := judge(file, q)
		if q.File != "" {
			a.Error = strings.ReplaceAll(a.Error, file, q.File)
		}
		if err := out.Encode(a); err != nil {
			fail(err.Error())
		}
	}
}

func judge(file string, q question) answer {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if q.Do == "check" {
		// A KMS plugin that does not answer is no fault of the file; with a context that is already over nobody waits.
		cancel()
	}
	setGate("KMSv1", q.KMSV1)
	setGate("KMSv2", q.KMSV2)
	transformers, err := load(ctx, file, q.Reload)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if q.Do == "check" {
		return answer{OK: true}
	}
	transformer := transformers(schema.ParseGroupResource(q.Resource))
	name := value.DefaultContext(q.Key)
	switch q.Do {
	case "encrypt":
		stored, err := transformer.TransformToStorage(ctx, q.Value, name)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{OK: true, Value: stored}
	case "decrypt":
		plain, stale, err := transformer.TransformFromStorage(ctx, q.Value, name)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{OK: true, Value: plain, Stale: stale}
	}
	return answer{Error: fmt.Sprintf("unknown question %q", q.Do)}
}

// A gate that this version does not have, or no longer lets anyone change, stays as it is. One that it does not have
// must not even be tried: the feature gates remember it, and refuse all that come after.
func setGate(name featuregate.Feature, on bool) {
	gates := utilfeature.DefaultMutableFeatureGate
	if spec, known := gates.GetAll()[name]; !known || spec.LockToDefault {
		return
	}
	if err := gates.SetFromMap(map[string]bool{string(name): on}); err != nil {
		fail(err.Error())
	}
}
