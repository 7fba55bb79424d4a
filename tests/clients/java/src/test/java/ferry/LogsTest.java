package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.command.LogContainerCmd;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.LogConfig;
import java.time.Instant;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** What a container wrote, read later or while it is being written. */
class LogsTest extends Suite {
    private static LogContainerCmd log(String id) {
        return docker.logContainerCmd(id).withStdOut(true).withStdErr(true);
    }

    @Test
    void streamsApart() throws Exception {
        String id = run(shell("echo out; echo err >&2"), 0);
        Output both = log(id).exec(new Output()).ended();
        assertEquals("out\n", both.out());
        assertEquals("err\n", both.err());
        Output one = docker.logContainerCmd(id).withStdErr(true).exec(new Output()).ended();
        assertEquals("err\n", one.all());
    }

    @Test
    void tail() throws Exception {
        String id = run(shell("seq 1 100"), 0);
        assertEquals("99\n100\n", log(id).withTail(2).exec(new Output()).ended().out());
        assertEquals("", log(id).withTail(0).exec(new Output()).ended().out());
        assertEquals(292, log(id).withTailAll().exec(new Output()).ended().out().length());
    }

    @Test
    void sinceAndUntil() throws Exception {
        String id = run(shell("echo old; sleep 2.2; echo new"), 0);
        String stamped = log(id).withTimestamps(true).exec(new Output()).ended().out();
        Instant fresh = Instant.parse(stamped.lines().toList().get(1).split(" ")[0]);
        int second = Math.toIntExact(fresh.getEpochSecond());
        assertEquals("new\n", log(id).withSince(second).exec(new Output()).ended().out());
        assertEquals("old\n", log(id).withUntil(second).exec(new Output()).ended().out());
    }

    @Test
    void timestamps() throws Exception {
        Instant before = Instant.now();
        String id = run(shell("echo one; echo two"), 0);
        var lines = log(id).withTimestamps(true).exec(new Output()).ended().out().lines().toList();
        assertEquals(2, lines.size());
        for (String line : lines) {
            String[] parts = line.split(" ", 2);
            assertTrue(parts[0].matches("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{9}Z"), line);
            assertTrue(!Instant.parse(parts[0]).isBefore(before) && !Instant.parse(parts[0]).isAfter(Instant.now()), line);
        }
        assertTrue(lines.get(1).endsWith(" two"));
    }

    @Test
    void follow() throws Exception {
        String id = start(shell("echo one; sleep 0.5; echo two; sleep 0.5; echo three"));
        Output output = log(id).withFollowStream(true).withTailAll().exec(new Output());
        output.until(o -> o.out().equals("one\n"));
        assertEquals("one\ntwo\nthree\n", output.ended().out());
    }

    @Test
    void linesOfAnyLengthComeBackWhole() throws Exception {
        String id = run(shell("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"), 0);
        String out = log(id).exec(new Output()).ended().out();
        assertEquals("x".repeat(100000) + "\nend\n", out);
    }

    @Test
    void terminalHasNoFrames() throws Exception {
        String id = run(shell("echo on a terminal").withTty(true), 0);
        assertEquals("on a terminal\r\n", log(id).exec(new Output()).ended().all());
    }

    @Test
    void driverWithoutLogs() {
        var none = new LogConfig(LogConfig.LoggingType.NONE, Map.of());
        String id = run(shell("echo lost").withHostConfig(HostConfig.newHostConfig().withLogConfig(none)), 0);
        refused(501, "configured logging driver does not support reading", () -> log(id).exec(new Output()).ended());
    }

    @Test
    void localDriverAndLimits() throws Exception {
        var local = new LogConfig(LogConfig.LoggingType.LOCAL, Map.of("max-size", "1m", "max-file", "2"));
        String id = run(shell("echo kept").withHostConfig(HostConfig.newHostConfig().withLogConfig(local)), 0);
        assertEquals("kept\n", log(id).exec(new Output()).ended().out());
        assertEquals("1m", inspect(id).getHostConfig().getLogConfig().getConfig().get("max-size"));
    }
}
