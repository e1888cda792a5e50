# frozen_string_literal: true

# Bunny (Debian: ruby-bunny). See README.md beside this file.

require 'bunny'
require 'set'

$stdout.sync = true
MODE, PORTS, QUEUE, COUNT = ARGV[0], ARGV[1].split(','), ARGV[2], Integer(ARGV[3])
LOST = [Bunny::Exception, Timeout::Error, IOError, SystemCallError].freeze
WINDOW = 10

# Connects to the first port that answers, starting with number `first`.
def connect(first)
  tries = 0
  begin
    port = PORTS[(first + tries) % PORTS.size]
    # Recovery of its own would hide which publishes were confirmed: this program does it itself.
    connection = Bunny.new(
      host: '127.0.0.1', port: Integer(port), automatically_recover: false,
      recover_from_connection_close: false, log_level: Logger::FATAL, continuation_timeout: 10_000,
      session_error_handler: Class.new { def self.raise(*); end }
    )
    connection.start
    [connection, first + tries]
  rescue *LOST
    tries += 1
    raise if tries > 300

    sleep 0.1
    retry
  end
end

# Runs the block with a connection and a channel until it is through, on the next node after each loss.
def persistently
  node = 0
  loop do
    connection, node = connect(node)
    begin
      channel = connection.create_channel
      yield connection, channel
      connection.close
      return
    rescue *LOST
      puts 'reconnecting'
      node += 1
      begin
        connection.close(false)
      rescue StandardError
        nil
      end
    end
  end
end

def declare(channel)
  channel.queue(QUEUE, durable: true, arguments: { 'x-max-length' => 1_000_000 })
end

def refusals(connection, channel)
  other = connection.create_channel
  begin
    other.queue("#{QUEUE}-missing", passive: true)
  rescue Bunny::NotFound => e
    puts "missing #{e.channel_close.reply_code} #{e.channel_close.reply_text}"
  end
  returned = ::Queue.new
  exchange = channel.default_exchange
  exchange.on_return { |info, _, _| returned << info }
  exchange.publish('nobody', routing_key: "#{QUEUE}-missing", mandatory: true)
  channel.wait_for_confirms
  info = returned.pop
  puts "returned #{info.reply_code} #{info.reply_text}"
end

def publish
  confirmed = 0
  told = false
  persistently do |connection, channel|
    declare(channel)
    channel.confirm_select
    unless told
      refusals(connection, channel)
      told = true
    end
    while confirmed < COUNT
      last = [confirmed + WINDOW, COUNT].min
      (confirmed...last).each do |number|
        channel.default_exchange.publish(
          number.to_s, routing_key: QUEUE, persistent: true, headers: { 'number' => number }
        )
      end
      raise Bunny::Exception, 'not confirmed' unless channel.wait_for_confirms && connection.open?

      confirmed = last
      puts "confirmed #{confirmed}" if (confirmed % 100).zero?
    end
  end
end

def consume
  seen = Set.new
  persistently do |connection, channel|
    channel.prefetch(20)
    queue = declare(channel)
    arrived = ::Queue.new
    queue.subscribe(manual_ack: true) { |info, properties, body| arrived << [info, properties, body] }
    heard = Time.now
    while seen.size < COUNT
      begin
        info, properties, body = arrived.pop(true)
      rescue ThreadError
        # Bunny may take a connection for open that is lost: only what it asks for and does not get tells.
        if Time.now - heard > 1
          queue.status
          heard = Time.now
        end
        sleep 0.005
        next
      end
      heard = Time.now
      raise "header #{properties.headers} of #{body}" unless properties.headers['number'] == Integer(body)

      channel.ack(info.delivery_tag)
      puts "received #{seen.size}" if seen.add?(Integer(body)) && (seen.size % 100).zero?
    end
  end
end

MODE == 'publish' ? publish : consume
puts 'done'
