// amqp091-go (Debian: golang-github-rabbitmq-amqp091-go-dev, golang-go). See README.md one folder up.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	window  = 10
	patient = 30 * time.Second
)

var (
	errLost = errors.New("the connection was lost")
	ports   []string
	queue   string
	count   int
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: amqp091 publish|consume PORTS QUEUE COUNT")
	}
	ports, queue = strings.Split(os.Args[2], ","), os.Args[3]
	var err error
	if count, err = strconv.Atoi(os.Args[4]); err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "publish":
		publish()
	case "consume":
		consume()
	default:
		log.Fatal("publish or consume")
	}
	fmt.Println("done")
}

// connect tries the ports in turn, starting with number node, and returns the number that answered.
func connect(node int) (*amqp.Connection, int) {
	for tries := 0; ; tries++ {
		address := fmt.Sprintf("amqp://guest:guest@127.0.0.1:%s/", ports[node%len(ports)])
		connection, err := amqp.Dial(address)
		if err == nil {
			return connection, node
		}
		if tries > 300 {
			log.Fatal(err)
		}
		node++
		time.Sleep(100 * time.Millisecond)
	}
}

// persistently runs work with a connection and a channel until it is through, on the next node after
// each loss.
func persistently(work func(*amqp.Connection, *amqp.Channel) error) {
	for node := 0; ; node++ {
		var connection *amqp.Connection
		connection, node = connect(node)
		channel, err := connection.Channel()
		if err == nil {
			err = work(connection, channel)
		}
		if err == nil {
			if err = connection.Close(); err != nil {
				log.Fatal(err)
			}
			return
		}
		if !connection.IsClosed() && !errors.Is(err, errLost) {
			log.Fatal(err)
		}
		connection.Close()
		fmt.Println("reconnecting")
	}
}

func declare(channel *amqp.Channel) error {
	_, err := channel.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-max-length": int32(1000000)})
	return err
}

func refusals(connection *amqp.Connection, channel *amqp.Channel, confirms chan amqp.Confirmation) error {
	other, err := connection.Channel()
	if err != nil {
		return err
	}
	var refused *amqp.Error
	_, err = other.QueueDeclarePassive(queue+"-missing", true, false, false, false, nil)
	if !errors.As(err, &refused) {
		return err
	}
	fmt.Println("missing", refused.Code, refused.Reason)
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	if err = send(channel, queue+"-missing", true, amqp.Publishing{Body: []byte("nobody")}); err != nil {
		return err
	}
	// The return comes before the confirm.
	if err = confirmed(confirms); err != nil {
		return err
	}
	returned := <-returns
	fmt.Println("returned", returned.ReplyCode, returned.ReplyText)
	return nil
}

func send(channel *amqp.Channel, key string, mandatory bool, message amqp.Publishing) error {
	patience, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	return channel.PublishWithContext(patience, "", key, mandatory, false, message)
}

func confirmed(confirms chan amqp.Confirmation) error {
	select {
	case confirm, open := <-confirms:
		if !open || !confirm.Ack {
			return errLost
		}
		return nil
	case <-time.After(patient):
		return errLost
	}
}

func publish() {
	done, told := 0, false
	persistently(func(connection *amqp.Connection, channel *amqp.Channel) error {
		if err := declare(channel); err != nil {
			return err
		}
		if err := channel.Confirm(false); err != nil {
			return err
		}
		confirms := channel.NotifyPublish(make(chan amqp.Confirmation, window))
		if !told {
			if err := refusals(connection, channel, confirms); err != nil {
				return err
			}
			told = true
		}
		for done < count {
			last := done + window
			if last > count {
				last = count
			}
			for number := done; number < last; number++ {
				err := send(channel, queue, false, amqp.Publishing{
					DeliveryMode: amqp.Persistent,
					Headers:      amqp.Table{"number": int64(number)},
					Body:         []byte(strconv.Itoa(number)),
				})
				if err != nil {
					return err
				}
			}
			for number := done; number < last; number++ {
				if err := confirmed(confirms); err != nil {
					return err
				}
			}
			done = last
			if done%100 == 0 {
				fmt.Println("confirmed", done)
			}
		}
		return nil
	})
}

func consume() {
	seen := map[int]bool{}
	persistently(func(connection *amqp.Connection, channel *amqp.Channel) error {
		if err := channel.Qos(20, 0, false); err != nil {
			return err
		}
		if err := declare(channel); err != nil {
			return err
		}
		deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		for delivery := range deliveries {
			number, err := strconv.Atoi(string(delivery.Body))
			if err != nil || delivery.Headers["number"] != int64(number) {
				log.Fatalf("header %v of %s", delivery.Headers, delivery.Body)
			}
			if err = delivery.Ack(false); err != nil {
				return errLost
			}
			if !seen[number] {
				seen[number] = true
				if len(seen)%100 == 0 {
					fmt.Println("received", len(seen))
				}
			}
			if len(seen) == count {
				return nil
			}
		}
		return errLost
	})
}
