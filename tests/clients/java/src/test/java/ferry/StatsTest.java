package ferry;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Statistics;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** What containers use. */
class StatsTest extends Suite {
    private static final class Collected extends ResultCallback.Adapter<Statistics> {
        final List<Statistics> samples = new CopyOnWriteArrayList<>();

        @Override
        public void onNext(Statistics sample) {
            samples.add(sample);
        }
    }

    @Test
    void oneSample() throws Exception {
        String id = start(shell("while :; do :; done").withHostConfig(HostConfig.newHostConfig().withMemory(64L << 20)));
        Collected one = docker.statsCmd(id).withNoStream(true).exec(new Collected());
        assertTrue(one.awaitCompletion(20, TimeUnit.SECONDS));
        assertEquals(1, one.samples.size());
        Statistics sample = one.samples.get(0);
        assertEquals(64L << 20, sample.getMemoryStats().getLimit());
        assertTrue(sample.getMemoryStats().getUsage() > 0);
        assertTrue(sample.getPidsStats().getCurrent() >= 1);
        assertTrue(sample.getNetworks().containsKey("eth0"));
        assertTrue(sample.getCpuStats().getOnlineCpus() > 0);
        // Two readings make a share of the processor; the busy loop has one.
        long used = sample.getCpuStats().getCpuUsage().getTotalUsage() - sample.getPreCpuStats().getCpuUsage().getTotalUsage();
        long all = sample.getCpuStats().getSystemCpuUsage() - sample.getPreCpuStats().getSystemCpuUsage();
        assertTrue(used > 0 && all > used, used + " of " + all);
    }

    @Test
    void stream() throws Exception {
        String id = start(container("sleep", "60"));
        Collected live = docker.statsCmd(id).exec(new Collected());
        eventually("three samples", () -> live.samples.size() >= 3);
        live.close();
        Statistics last = live.samples.get(2);
        assertNotNull(last.getRead());
        assertEquals(live.samples.get(1).getRead(), last.getPreread());
    }

    @Test
    void ofAStoppedContainer() throws Exception {
        String id = run(container("true"), 0);
        Collected one = docker.statsCmd(id).withNoStream(true).exec(new Collected());
        assertTrue(one.awaitCompletion(20, TimeUnit.SECONDS));
        assertEquals("0001-01-01T00:00:00Z", one.samples.get(0).getRead());
    }
}
