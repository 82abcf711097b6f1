# Calls methods, allocates, raises, loads a file and collects garbage, over and over.
# Ruby 3.1 fires method__entry and method__return only while a TracePoint is enabled, all others always.
require "tempfile"
class Thing
  def method_of(n) = [n, n.to_s, { n => n }]
end
def inner(n) = Thing.new.method_of(n)
def outer(n) = n.times { |i| inner(i) }
loaded = Tempfile.new(["work", ".rb"])
$stdout.sync = true
TracePoint.new(:call, :return) {}.enable
puts "ready"
loop do
  outer(20)
  load loaded.path
  begin
    raise "raised"
  rescue RuntimeError
    outer(1)
  end
  GC.start
  sleep 0.1
end
