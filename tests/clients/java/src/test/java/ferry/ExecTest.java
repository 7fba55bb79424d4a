package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.command.ExecCreateCmd;
import java.io.ByteArrayInputStream;
import java.io.PipedInputStream;
import java.io.PipedOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Further processes in a running container, and their streams. */
class ExecTest extends Suite {
    private String id;

    @BeforeEach
    void startContainer() {
        id = start(container("sleep", "300"));
    }

    private ExecCreateCmd exec(String script) {
        return docker.execCreateCmd(id).withCmd("sh", "-c", script).withAttachStdout(true).withAttachStderr(true);
    }

    private static long status(String exec) {
        return docker.inspectExecCmd(exec).exec().getExitCodeLong();
    }

    @Test
    void outputAndErrorsComeApart() throws Exception {
        String exec = exec("echo out; echo err >&2; exit 3").exec().getId();
        Output output = docker.execStartCmd(exec).exec(new Output()).ended();
        assertEquals("out\n", output.out());
        assertEquals("err\n", output.err());
        assertEquals(3, status(exec));
        assertFalse(docker.inspectExecCmd(exec).exec().isRunning());
        assertEquals(id, docker.inspectExecCmd(exec).exec().getContainerID());
    }

    @Test
    void inputReachesTheProcess() throws Exception {
        String exec = exec("read line; echo \"got $line\"").withAttachStdin(true).exec().getId();
        var input = new ByteArrayInputStream("hello\n".getBytes(StandardCharsets.UTF_8));
        Output output = docker.execStartCmd(exec).withStdIn(input).exec(new Output()).ended();
        assertEquals("got hello\n", output.out());
        assertEquals(0, status(exec));
    }

    @Test
    void inputAndOutputTakeTurns() throws Exception {
        String exec = exec("while read line; do echo \"<$line>\"; test \"$line\" = end && exit; done")
                .withAttachStdin(true)
                .exec()
                .getId();
        var in = new PipedOutputStream();
        var source = new PipedInputStream(in);
        Output output = docker.execStartCmd(exec).withStdIn(source).exec(new Output());
        for (String word : List.of("one", "two", "end")) {
            in.write((word + "\n").getBytes(StandardCharsets.UTF_8));
            in.flush();
            output.until(o -> o.out().endsWith("<" + word + ">\n"));
        }
        assertEquals("<one>\n<two>\n<end>\n", output.ended().out());
        in.close();
    }

    @Test
    void muchOutputIsComplete() throws Exception {
        String exec = exec("seq 1 200000").exec().getId();
        String out = docker.execStartCmd(exec).exec(new Output()).ended().out();
        assertEquals(1288895, out.length());
        assertTrue(out.endsWith("199999\n200000\n"));
    }

    @Test
    void terminal() throws Exception {
        String exec = docker.execCreateCmd(id)
                .withCmd("sh", "-c", "tty; stty size; echo err >&2")
                .withAttachStdout(true)
                .withAttachStderr(true)
                .withTty(true)
                .exec()
                .getId();
        Output output = docker.execStartCmd(exec).withTty(true).exec(new Output()).ended();
        String all = output.all();
        assertTrue(all.startsWith("/dev/pts/"), all);
        assertTrue(all.endsWith("err\r\n"), all);
        assertEquals("", output.err());
    }

    @Test
    void userDirectoryAndEnvironment() throws Exception {
        String exec = exec("id -u; pwd; echo $E")
                .withUser("www-data")
                .withWorkingDir("/tmp")
                .withEnv(List.of("E=given"))
                .exec()
                .getId();
        assertEquals("33\n/tmp\ngiven\n", docker.execStartCmd(exec).exec(new Output()).ended().out());
    }

    @Test
    void detached() throws Exception {
        String exec = docker.execCreateCmd(id).withCmd("sh", "-c", "echo done > /tmp/done; exit 9").exec().getId();
        docker.execStartCmd(exec).withDetach(true).exec(new Output()).ended();
        eventually("the process ends", () -> !docker.inspectExecCmd(exec).exec().isRunning());
        assertEquals(9, status(exec));
        String check = exec("cat /tmp/done").exec().getId();
        assertEquals("done\n", docker.execStartCmd(check).exec(new Output()).ended().out());
    }

    @Test
    void execsAreListedWhileTheyRun() throws Exception {
        String exec = docker.execCreateCmd(id).withCmd("sleep", "60").exec().getId();
        docker.execStartCmd(exec).withDetach(true).exec(new Output()).ended();
        assertEquals(List.of(exec), inspect(id).getExecIds());
        assertTrue(docker.inspectExecCmd(exec).exec().isRunning());
        assertTrue(docker.inspectExecCmd(exec).exec().getPidLong() > 0);
    }

    @Test
    void commandThatIsNotThere() throws Exception {
        String exec = docker.execCreateCmd(id).withCmd("/no/such").withAttachStdout(true).exec().getId();
        try {
            docker.execStartCmd(exec).exec(new Output()).ended();
        } catch (com.github.dockerjava.api.exception.DockerException refused) {
            assertEquals(400, refused.getHttpStatus(), refused.getMessage());
        }
        assertEquals(127, status(exec));
    }
}
