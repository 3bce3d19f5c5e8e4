// A producer with default settings and a group's consumer, with franz-go, until standard input ends.
//
// usage: client BOOTSTRAP TOPIC      prints "ready", then "acknowledged N read N errors N"
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 60 * time.Second

var (
	lock         sync.Mutex
	acknowledged = map[string]bool{}
	read         = map[string]bool{}
	errors       int
)

func note(err error) {
	lock.Lock()
	defer lock.Unlock()
	errors++
	fmt.Fprintln(os.Stderr, "error:", err)
}

func produce(client *kgo.Client, topic string, stopped chan struct{}) {
	for number := 0; ; number++ {
		select {
		case <-stopped:
			if err := client.Flush(context.Background()); err != nil {
				note(err)
			}
			return
		case <-time.After(2 * time.Millisecond):
		}
		record := &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(number))}
		client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
			if err != nil {
				note(err)
				return
			}
			lock.Lock()
			acknowledged[string(record.Value)] = true
			lock.Unlock()
		})
	}
}

func readAcknowledged() int {
	lock.Lock()
	defer lock.Unlock()
	count := 0
	for value := range acknowledged {
		if read[value] {
			count++
		}
	}
	return count
}

func main() {
	servers, topic := strings.Split(os.Args[1], ","), os.Args[2]
	producer, err := kgo.NewClient(kgo.SeedBrokers(servers...))
	if err != nil {
		panic(err)
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumerGroup(topic+"-readers"),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		panic(err)
	}
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(stopped) }()
	go func() { produce(producer, topic, stopped); close(done) }()
	var end time.Time
	for end.IsZero() || (time.Now().Before(end) && readAcknowledged() < len(acknowledged)) {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		fetches := consumer.PollFetches(ctx)
		cancel()
		fetches.EachError(func(_ string, _ int32, err error) {
			if err != context.DeadlineExceeded {
				note(err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			lock.Lock()
			if len(read) == 0 {
				fmt.Println("ready")
			}
			read[string(record.Value)] = true
			lock.Unlock()
		})
		select {
		case <-done:
			if end.IsZero() {
				end = time.Now().Add(patience)
			}
		default:
		}
	}
	consumer.Close()
	fmt.Printf("acknowledged %d read %d errors %d\n", len(acknowledged), readAcknowledged(), errors)
}
