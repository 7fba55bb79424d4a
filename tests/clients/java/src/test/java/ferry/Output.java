package ferry;

import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.model.Frame;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

/** What a stream of frames delivered: stdout and stderr apart, and what came without frames. */
final class Output extends ResultCallback.Adapter<Frame> {
    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private final ByteArrayOutputStream raw = new ByteArrayOutputStream();

    @Override
    public synchronized void onNext(Frame frame) {
        switch (frame.getStreamType()) {
            case STDOUT -> out.writeBytes(frame.getPayload());
            case STDERR -> err.writeBytes(frame.getPayload());
            default -> raw.writeBytes(frame.getPayload());
        }
        notifyAll();
    }

    /** Waits for the end of the stream. */
    Output ended() throws InterruptedException {
        if (!awaitCompletion(30, TimeUnit.SECONDS)) {
            throw new AssertionError("the stream did not end; so far: " + all());
        }
        return this;
    }

    /** Waits until what came satisfies the condition. */
    synchronized Output until(Predicate<Output> condition) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.test(this)) {
            long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
            if (left <= 0) {
                throw new AssertionError("what was expected did not come; so far: " + all());
            }
            wait(left);
        }
        return this;
    }

    synchronized String out() {
        return out.toString(StandardCharsets.UTF_8);
    }

    synchronized String err() {
        return err.toString(StandardCharsets.UTF_8);
    }

    /** What came outside of frames, as it does from a terminal. */
    synchronized String raw() {
        return raw.toString(StandardCharsets.UTF_8);
    }

    String all() {
        return out() + err() + raw();
    }
}
