/** Calls methods, allocates, collects garbage and starts threads, over and over. */
public class Work {
    static final class Thing {
        final int[] numbers = new int[16];
    }

    static Thing inner(int n) {
        Thing thing = new Thing();
        thing.numbers[n % 16] = n;
        return thing;
    }

    static int outer(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum += inner(i).numbers[i % 16];
        return sum;
    }

    public static void main(String[] args) throws Exception {
        System.out.println("ready");
        while (true) {
            outer(20);
            System.gc();
            Thread thread = new Thread(() -> outer(5), "short-lived");
            thread.start();
            thread.join();
            try {
                throw new IllegalStateException("thrown");
            } catch (IllegalStateException expected) {
                outer(1);
            }
            Thread.sleep(100);
        }
    }
}
