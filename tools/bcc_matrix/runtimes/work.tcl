# Calls procedures, over and over.
proc inner {n} { return [expr {$n + 1}] }
proc outer {n} { for {set i 0} {$i < $n} {incr i} { inner $i } }
puts ready
flush stdout
while 1 { outer 20; after 100 }
