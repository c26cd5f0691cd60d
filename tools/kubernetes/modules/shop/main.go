// A small shop for a container: one static program, which is also the pause container of its pods, and their `cat`.
//
// RELEASE_COLOR and RELEASE_VERSION say who it is. FAULT is errors=0.3 (a share of 500s), unready (health is 503) or
// crash (it ends with 3). At SIGTERM it goes on for DRAIN (2s) and closes each connection with its next answer.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if filepath.Base(os.Args[0]) == "cat" {
		os.Exit(cat(os.Args[1:]))
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) > 1 && os.Args[1] == "pause" {
		<-stop
		return
	}
	fault, share, _ := strings.Cut(os.Getenv("FAULT"), "=")
	errors, _ := strconv.ParseFloat(share, 64)
	if fault == "crash" {
		log.Print("fault: cannot read its configuration")
		os.Exit(3)
	}
	drain, err := time.ParseDuration(os.Getenv("DRAIN"))
	if err != nil {
		drain = 2 * time.Second
	}
	pod, _ := os.Hostname()
	says := map[string]string{"pod": pod, "color": os.Getenv("RELEASE_COLOR"), "version": os.Getenv("RELEASE_VERSION")}
	var ending atomic.Bool
	answer := func(w http.ResponseWriter, status int) {
		// Closing connections that are idle now would meet requests that are on their way: each gets its answer first.
		if ending.Load() {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("X-Release-Color", says["color"])
		w.Header().Set("X-Pod", pod)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(says)
	}
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[bool]int{true: 503, false: 200}[fault == "unready"])
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[bool]int{true: 500, false: 200}[rand.Float64() < errors])
	})
	server := &http.Server{Addr: ":8080", IdleTimeout: 2 * time.Minute}
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	fmt.Printf("%s %s serves\n", says["color"], says["version"])
	<-stop
	ending.Store(true)
	time.Sleep(drain)
	patient, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = server.Shutdown(patient)
}

// Files to standard output; 1 where one cannot be read, as cat does.
func cat(names []string) int {
	code := 0
	for _, name := range names {
		file, err := os.Open(name)
		if err == nil {
			_, err = io.Copy(os.Stdout, file)
			_ = file.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "cat:", err)
			code = 1
		}
	}
	return code
}
