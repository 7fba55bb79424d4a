package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.PipedInputStream;
import java.io.PipedOutputStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** Streams of a container's own process. */
class AttachTest extends Suite {
    @Test
    void outputAndErrorsComeApart() throws Exception {
        String id = create(shell("echo out; echo err >&2; sleep 0.3; echo more"));
        Output output = docker.attachContainerCmd(id)
                .withStdOut(true)
                .withStdErr(true)
                .withFollowStream(true)
                .exec(new Output());
        output.awaitStarted();
        docker.startContainerCmd(id).exec();
        output.ended();
        assertEquals("out\nmore\n", output.out());
        assertEquals("err\n", output.err());
    }

    @Test
    void onlyTheStreamAskedFor() throws Exception {
        String id = create(shell("echo out; echo err >&2"));
        Output output = docker.attachContainerCmd(id).withStdErr(true).withFollowStream(true).exec(new Output());
        output.awaitStarted();
        docker.startContainerCmd(id).exec();
        output.ended();
        assertEquals("", output.out());
        assertEquals("err\n", output.err());
    }

    @Test
    void inputIsRead() throws Exception {
        String id = create(shell("read a; echo \"<$a>\"; read b; echo \"<$b>\"").withStdinOpen(true).withStdInOnce(true));
        var in = new PipedOutputStream();
        Output output = docker.attachContainerCmd(id)
                .withStdIn(new PipedInputStream(in))
                .withStdOut(true)
                .withFollowStream(true)
                .exec(new Output());
        output.awaitStarted();
        docker.startContainerCmd(id).exec();
        in.write("first\n".getBytes(StandardCharsets.UTF_8));
        in.flush();
        output.until(o -> o.out().equals("<first>\n"));
        in.write("second\n".getBytes(StandardCharsets.UTF_8));
        in.flush();
        assertEquals("<first>\n<second>\n", output.ended().out());
        in.close();
        assertEquals(0, wait(id));
    }

    @Test
    void logsFromBeforeComeFirst() throws Exception {
        String id = start(shell("echo before; read a; echo after").withStdinOpen(true));
        eventually("the first line is logged", () -> logs(id).out().equals("before\n"));
        var in = new PipedOutputStream();
        Output output = docker.attachContainerCmd(id)
                .withStdIn(new PipedInputStream(in))
                .withStdOut(true)
                .withLogs(true)
                .withFollowStream(true)
                .exec(new Output());
        output.until(o -> o.out().equals("before\n"));
        in.write("\n".getBytes(StandardCharsets.UTF_8));
        in.flush();
        assertEquals("before\nafter\n", output.ended().out());
        in.close();
    }

    @Test
    void terminalEchoes() throws Exception {
        String id = create(shell("read a; echo \"<$a>\"; tty").withTty(true).withStdinOpen(true));
        var in = new PipedOutputStream();
        Output output = docker.attachContainerCmd(id)
                .withStdIn(new PipedInputStream(in))
                .withStdOut(true)
                .withStdErr(true)
                .withFollowStream(true)
                .exec(new Output());
        output.awaitStarted();
        docker.startContainerCmd(id).exec();
        in.write("typed\n".getBytes(StandardCharsets.UTF_8));
        in.flush();
        String all = output.ended().all();
        in.close();
        assertTrue(all.startsWith("typed\r\n<typed>\r\n/dev/"), all);
    }
}
