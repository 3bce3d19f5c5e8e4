// Records go to a topic, a group reads them, one member leaves, the other goes on: with franz-go.
//
// usage: compat HOST:PORT classic|consumer
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const partitions, records, patience = 6, 3000, 30 * time.Second

var codecs = []kgo.CompressionCodec{
	kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
}

func must(what string, err error) {
	if err != nil {
		fmt.Printf("FAILED %s: %v\n", what, err)
		os.Exit(1)
	}
}

func check(what string, holds bool) {
	if !holds {
		must(what, fmt.Errorf("it does not hold"))
	}
}

func connect(address string, options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address)}, options...)...)
	must("a client", err)
	return client
}

func create(ctx context.Context, address, topic string) {
	client := connect(address)
	defer client.Close()
	request := kmsg.NewPtrCreateTopicsRequest()
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, partitions, 1
	request.Topics = append(request.Topics, wanted)
	response, err := request.RequestWith(ctx, client)
	must("create a topic", err)
	check("create a topic", response.Topics[0].ErrorCode == 0)
}

// produce sends numbers, a part of them with each codec.
func produce(ctx context.Context, address, topic string, from, to int) {
	for which, codec := range codecs {
		client := connect(address, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic),
			kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for number := from + which; number < to; number += len(codecs) {
			record := &kgo.Record{Partition: int32(number % partitions), Value: []byte(strconv.Itoa(number))}
			client.Produce(ctx, record, func(_ *kgo.Record, err error) { must("produce", err) })
		}
		must("flush", client.Flush(ctx))
		client.Close()
	}
}

// A member reads and commits until it is told to leave.
type member struct {
	client *kgo.Client
	read   chan int
	owned  chan int
	leave  context.CancelFunc
	left   chan struct{}
}

func join(address, topic, group, protocol string) *member {
	m := &member{read: make(chan int, 10*records), owned: make(chan int, 1000), left: make(chan struct{})}
	owned := 0
	change := func(sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, told map[string][]int32) {
			owned += sign * len(told[topic])
			m.owned <- owned
		}
	}
	options := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.OnPartitionsLost(change(-1)),
	}
	if protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	} else {
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	m.client = connect(address, options...)
	var ctx context.Context
	ctx, m.leave = context.WithCancel(context.Background())
	go m.run(ctx)
	return m
}

func (m *member) run(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := m.client.PollFetches(ctx)
		fetches.EachRecord(func(record *kgo.Record) {
			number, err := strconv.Atoi(string(record.Value))
			must("a record's value", err)
			m.read <- number
		})
		// Refused while the group rebalances; the next commit is of later offsets.
		_ = m.client.CommitUncommittedOffsets(context.Background())
	}
	m.client.Close()
	close(m.left)
}

// until waits for a member to own so many partitions.
func (m *member) until(what string, wanted int) {
	deadline := time.After(patience)
	for {
		select {
		case owned := <-m.owned:
			if owned == wanted {
				return
			}
		case <-deadline:
			must(what, fmt.Errorf("waited %v", patience))
		}
	}
}

func readAll(what string, seen map[int]bool, wanted int, members ...*member) {
	deadline := time.Now().Add(patience)
	for len(seen) < wanted {
		if time.Now().After(deadline) {
			must(what, fmt.Errorf("%d of %d records in %v", len(seen), wanted, patience))
		}
		for _, m := range members {
			select {
			case number := <-m.read:
				seen[number] = true
			case <-time.After(time.Millisecond):
			}
		}
	}
}

func committed(ctx context.Context, address, topic, group string) (sum int64) {
	client := connect(address)
	defer client.Close()
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group = group
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = group
	request.Groups = append(request.Groups, one)
	response, err := request.RequestWith(ctx, client)
	must("fetch offsets", err)
	for _, group := range response.Groups {
		check("fetch offsets", group.ErrorCode == 0)
		for _, topic := range group.Topics {
			for _, partition := range topic.Partitions {
				sum += partition.Offset
			}
		}
	}
	return sum
}

func main() {
	address, protocol := os.Args[1], os.Args[2]
	began, ctx := time.Now(), context.Background()
	topic := fmt.Sprintf("go-%s-%d", protocol, rand.Int31())
	group := "group-of-" + topic
	create(ctx, address, topic)
	produce(ctx, address, topic, 0, records)
	seen := map[int]bool{}
	one := join(address, topic, group, protocol)
	one.until("the first member owns all", partitions)
	two := join(address, topic, group, protocol)
	two.until("the second member gets its half", partitions/2)
	readAll("all is read", seen, records, one, two)
	two.leave()
	<-two.left
	one.until("the first member owns all again", partitions)
	produce(ctx, address, topic, records, 2*records)
	readAll("what came later is read", seen, 2*records, one, two)
	one.leave()
	<-one.left
	check("all offsets are committed", committed(ctx, address, topic, group) == 2*records)
	fmt.Printf("franz-go %s: %d records, %.1f s\n", protocol, len(seen), time.Since(began).Seconds())
}
