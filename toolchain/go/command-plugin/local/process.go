package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
)

// A killed group's pipes close at once unless a process left the group and still holds them.
const drainAfterKill = time.Second

// run executes the command and fills out with what it left. The previous content of out is what the command sees as
// PULUMI_COMMAND_STDOUT and PULUMI_COMMAND_STDERR.
//
// An error holds the exit status, the command and all that it printed, as the published plugin's does, and so whatever
// secret a command holds or prints. It never holds environment or stdin: secrets belong there.
//
// When ctx ends, the command and all of its process group are killed.
func run(ctx context.Context, command string, in *Inputs, out *Outputs) error {
	dir, err := workingDir(in)
	if err != nil {
		return err
	}
	argv := append(interpreter(in), command)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = environment(in, out)
	// A group of its own lets a cancel reach the grandchildren too; killing the shell alone would leave them running.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	logger := p.GetLogger(ctx)
	printed := &transcript{}
	stdout := &stream{transcript: printed}
	stderr := &stream{transcript: printed}
	if in.Logging.shows(logStdout) {
		stdout.show = logger.InfoStatus
	}
	if in.Logging.shows(logStderr) {
		stderr.show = logger.InfoStatus
	}
	if err := execute(ctx, cmd, in.Stdin, stdout, stderr); err != nil {
		return fmt.Errorf("%w: running %q:\n%s", err, command, printed.text.String())
	}

	if err := collectFiles(dir, in, out); err != nil {
		return err
	}
	out.Stdout = strings.TrimSuffix(stdout.text.String(), "\n")
	out.Stderr = strings.TrimSuffix(stderr.text.String(), "\n")
	return nil
}

func workingDir(in *Inputs) (string, error) {
	if in.Dir != nil {
		return *in.Dir, nil
	}
	return os.Getwd()
}

func interpreter(in *Inputs) []string {
	if in.Interpreter != nil && len(*in.Interpreter) > 0 {
		return append([]string{}, *in.Interpreter...)
	}
	return []string{"/bin/sh", "-c"}
}

func environment(in *Inputs, previous *Outputs) []string {
	env := os.Environ()
	if in.Environment != nil {
		for name, value := range *in.Environment {
			env = append(env, name+"="+value)
		}
	}
	if in.AddPreviousOutputInEnv == nil || *in.AddPreviousOutputInEnv {
		if previous.Stdout != "" {
			env = append(env, "PULUMI_COMMAND_STDOUT="+previous.Stdout)
		}
		if previous.Stderr != "" {
			env = append(env, "PULUMI_COMMAND_STDERR="+previous.Stderr)
		}
	}
	return env
}

// execute starts cmd and returns when it has ended and nothing holds its output open any more, or soon after ctx ends.
func execute(ctx context.Context, cmd *exec.Cmd, input *string, stdout, stderr *stream) error {
	outPipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	errPipe, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	var inPipe io.WriteCloser
	if input != nil && *input != "" {
		if inPipe, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	// With process attributes set, Go reports a missing directory as a missing program.
	if _, err := os.Stat(cmd.Dir); err != nil {
		return &fs.PathError{Op: "chdir", Path: cmd.Dir, Err: errors.Unwrap(err)}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if inPipe != nil {
		// A command need not read its input: the write fails when it is gone, which is no error of the command.
		go func() {
			_, _ = io.WriteString(inPipe, *input)
			_ = inPipe.Close()
		}()
	}

	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-drained:
		case <-time.After(drainAfterKill):
			_ = outPipe.Close()
			_ = errPipe.Close()
		}
	})
	defer stop()

	var readers sync.WaitGroup
	readers.Go(func() { stdout.readFrom(outPipe) })
	readers.Go(func() { stderr.readFrom(errPipe) })
	readers.Wait()
	close(drained)
	return cmd.Wait()
}

// transcript gathers both streams in the order in which their lines arrived.
type transcript struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (t *transcript) add(line string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.text.WriteString(line)
}

// stream captures one output stream, line by line.
type stream struct {
	text       bytes.Buffer
	transcript *transcript
	show       func(line string) // nil: the stream is not logged
}

// readFrom reads to the end, or until the reader is closed. Lines may have any length.
func (s *stream) readFrom(reader io.Reader) {
	buffered := bufio.NewReader(reader)
	for {
		line, err := buffered.ReadString('\n')
		if line != "" {
			s.text.WriteString(line)
			s.transcript.add(line)
			if s.show != nil {
				s.show(strings.TrimRight(line, "\r\n"))
			}
		}
		if err != nil {
			return
		}
	}
}
