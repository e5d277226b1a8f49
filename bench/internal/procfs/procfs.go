// Package procfs reads CPU time and memory of processes from Linux' /proc.
package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go
// runs on.
const tick = 10 * time.Millisecond

// A Sample is the total of some processes and all their descendants.
type Sample struct {
	CPU time.Duration // user and system time
	RSS int64         // resident memory, bytes
	// Peak is the sum of the most resident memory that each had so far, in bytes.
	Peak int64
}

type stat struct {
	ppid int
	cpu  time.Duration
}

// readStat reads /proc/PID/stat (proc(5)); ok is false when the process is gone.
func readStat(pid int) (s stat, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	return parseStat(b)
}

// parseStat reads the fields after the name of the command, which stands in
// parentheses and may hold anything.
func parseStat(b []byte) (s stat, ok bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 13 {
		return stat{}, false
	}
	ppid, err1 := strconv.Atoi(f[1])
	user, err2 := strconv.Atoi(f[11])
	sys, err3 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil || err3 != nil {
		return stat{}, false
	}
	return stat{ppid, time.Duration(user+sys) * tick}, true
}

// Tree adds up the given processes and their descendants.
func Tree(pids ...int) Sample {
	children := map[int][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			children[s.ppid] = append(children[s.ppid], pid)
		}
	}
	var sum Sample
	var add func(int)
	add = func(pid int) {
		if s, ok := readStat(pid); ok {
			sum.CPU += s.cpu
			sum.RSS += rss(pid)
			sum.Peak += peak(pid)
		}
		for _, child := range children[pid] {
			add(child)
		}
	}
	for _, pid := range pids {
		add(pid)
	}
	return sum
}

// peak returns the most resident memory that a process had so far in bytes, 0 when it is gone.
func peak(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte("VmHWM:"))
	var kib int64
	if _, err := fmt.Sscan(string(rest), &kib); err != nil {
		return 0
	}
	return kib << 10
}

// rss returns the resident memory of a process in bytes, 0 when it is gone.
func rss(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// Busy returns the CPU time that the whole machine has used, time stolen from it
// included.
func Busy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var sum time.Duration
	for i, f := range strings.Fields(line) {
		const idle, iowait = 4, 5
		if i == 0 || i == idle || i == iowait || i > 8 { // guest time is part of user time
			continue
		}
		n, _ := strconv.Atoi(f)
		sum += time.Duration(n) * tick
	}
	return sum
}
