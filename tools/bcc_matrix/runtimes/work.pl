# Calls subroutines, over and over.
use strict;
use warnings;
$| = 1;
sub inner { my ($n) = @_; return $n + 1 }
sub outer { my ($n) = @_; my $sum = 0; $sum += inner($_) for 1 .. $n; return $sum }
print "ready\n";
while (1) { outer(20); select(undef, undef, undef, 0.1) }
