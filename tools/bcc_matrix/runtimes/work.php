<?php
// Calls functions, includes a file and throws, over and over.
class Thing {
    function method($n) { return $n + 1; }
}
function inner($n) { return strlen(str_repeat("x", $n)); }
function outer($n) { $thing = new Thing(); $sum = 0; for ($i = 0; $i < $n; $i++) $sum += inner($thing->method($i)); return $sum; }
$included = tempnam(sys_get_temp_dir(), "harken-php");
file_put_contents($included, "<?php return 1;");
register_shutdown_function(fn() => unlink($included));
echo "ready\n";
while (true) {
    outer(20);
    include $included;
    try { throw new Exception("thrown"); } catch (Exception $expected) { outer(1); }
    usleep(100000);
}
