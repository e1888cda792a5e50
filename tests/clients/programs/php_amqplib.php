<?php

// php-amqplib (Debian: php-amqplib, php-cli). See README.md beside this file.

declare(strict_types=1);

require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPExceptionInterface;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPRuntimeException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const WINDOW = 10;
[, $mode, $ports, $queue, $count] = $argv;
$ports = array_map('intval', explode(',', $ports));
$count = (int)$count;

/** Connects to the first port that answers, starting with number $node, which moves on. */
function connect(array $ports, int &$node): AMQPStreamConnection
{
    for ($tries = 0; ; $tries++) {
        $port = $ports[$node % count($ports)];
        try {
            return new AMQPStreamConnection('127.0.0.1', $port, 'guest', 'guest', '/', read_write_timeout: 30.0);
        } catch (AMQPExceptionInterface | ErrorException $error) {
            if ($tries > 300) {
                throw $error;
            }
            $node++;
            usleep(100_000);
        }
    }
}

/** Runs $work with a connection and a channel until it is through, on the next node after each loss. */
function persistently(array $ports, callable $work): void
{
    for ($node = 0; ; $node++) {
        $connection = connect($ports, $node);
        try {
            $work($connection, $connection->channel());
            $connection->close();
            return;
        } catch (AMQPExceptionInterface | ErrorException $error) {
            echo "reconnecting\n";
        }
    }
}

function declareQueue(AMQPChannel $channel, string $queue): void
{
    $arguments = new AMQPTable(['x-max-length' => 1_000_000]);
    $channel->queue_declare($queue, durable: true, auto_delete: false, arguments: $arguments);
}

function refusals(AMQPStreamConnection $connection, AMQPChannel $channel, string $queue): void
{
    try {
        $connection->channel()->queue_declare("$queue-missing", passive: true);
    } catch (AMQPProtocolChannelException $error) {
        echo "missing {$error->amqp_reply_code} {$error->amqp_reply_text}\n";
    }
    $returned = null;
    $channel->set_return_listener(function ($code, $text) use (&$returned): void {
        $returned = "$code $text";
    });
    $channel->basic_publish(new AMQPMessage('nobody'), '', "$queue-missing", mandatory: true);
    $channel->wait_for_pending_acks_returns(30);
    echo "returned $returned\n";
}

function publish(array $ports, string $queue, int $count): void
{
    $confirmed = 0;
    $told = false;
    persistently($ports, function ($connection, $channel) use ($queue, $count, &$confirmed, &$told): void {
        declareQueue($channel, $queue);
        $channel->confirm_select();
        if (!$told) {
            refusals($connection, $channel, $queue);
            $told = true;
        }
        $refused = false;
        $channel->set_nack_handler(function () use (&$refused): void {
            $refused = true;
        });
        while ($confirmed < $count) {
            $last = min($confirmed + WINDOW, $count);
            for ($number = $confirmed; $number < $last; $number++) {
                $channel->basic_publish(new AMQPMessage((string)$number, [
                    'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
                    'application_headers' => new AMQPTable(['number' => $number]),
                ]), '', $queue);
            }
            $channel->wait_for_pending_acks(30);
            if ($refused) {
                throw new AMQPRuntimeException('not confirmed');
            }
            $confirmed = $last;
            if ($confirmed % 100 === 0) {
                echo "confirmed $confirmed\n";
            }
        }
    });
}

function consume(array $ports, string $queue, int $count): void
{
    $seen = [];
    persistently($ports, function ($connection, $channel) use ($queue, $count, &$seen): void {
        $channel->basic_qos(0, 20, false);
        declareQueue($channel, $queue);
        $channel->basic_consume($queue, callback: function (AMQPMessage $message) use (&$seen): void {
            $number = (int)$message->getBody();
            if ($message->get('application_headers')->getNativeData()['number'] !== $number) {
                exit("header of $number\n");
            }
            $message->ack();
            if (!isset($seen[$number])) {
                $seen[$number] = true;
                if (count($seen) % 100 === 0) {
                    echo 'received ', count($seen), "\n";
                }
            }
        });
        while (count($seen) < $count) {
            $channel->wait(timeout: 60);
        }
    });
}

$mode === 'publish' ? publish($ports, $queue, $count) : consume($ports, $queue, $count);
echo "done\n";
