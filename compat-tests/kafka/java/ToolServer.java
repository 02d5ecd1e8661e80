import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

import org.apache.kafka.common.utils.Exit;

/**
 * Runs the main methods of Kafka's tools one after the other in one JVM, whose start takes longer than most tools.
 *
 * Requests come on standard input, answers go to standard output, all lengths big-endian 32-bit:
 * request: number of strings, each as length and UTF-8 (class name, then arguments), then standard input likewise;
 * answer: exit code, then standard output and standard error as length and bytes.
 *
 * The arguments are jars loaded anew for each tool, because tools keep state in static fields.
 */
public final class ToolServer {
    /** Stops a tool where its process would have ended. */
    private static final class Exited extends Error {
        final int code;

        Exited(int code) {
            super("exit " + code, null, false, false);
            this.code = code;
        }
    }

    /** Collects output up to the point where the process would have ended. */
    private static final class Capture extends ByteArrayOutputStream {
        private boolean ended;

        @Override
        public synchronized void write(int b) {
            if (!ended) {
                super.write(b);
            }
        }

        @Override
        public synchronized void write(byte[] b, int off, int len) {
            if (!ended) {
                super.write(b, off, len);
            }
        }

        synchronized void end(boolean value) {
            ended = value;
        }
    }

    public static void main(String[] jars) throws Exception {
        DataInputStream in = new DataInputStream(System.in);
        DataOutputStream out = new DataOutputStream(new FileOutputStream(FileDescriptor.out));
        URL[] urls = new URL[jars.length];
        for (int i = 0; i < jars.length; i++) {
            urls[i] = Path.of(jars[i]).toUri().toURL();
        }
        while (true) {
            int count;
            try {
                count = in.readInt();
            } catch (EOFException end) {
                // Clients that a tool left open have threads that would keep this JVM alive.
                Runtime.getRuntime().halt(0);
                return;
            }
            List<String> words = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                words.add(new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8));
            }
            byte[] input = in.readNBytes(in.readInt());
            Capture stdout = new Capture();
            Capture stderr = new Capture();
            int code = run(urls, words, input, stdout, stderr);
            out.writeInt(code);
            out.writeInt(stdout.size());
            stdout.writeTo(out);
            out.writeInt(stderr.size());
            stderr.writeTo(out);
            out.flush();
        }
    }

    private static int run(URL[] urls, List<String> words, byte[] input, Capture stdout, Capture stderr)
            throws Exception {
        int[] first = {-1};
        List<Runnable> hooks = new ArrayList<>();
        Exit.Procedure exit = (code, message) -> {
            // Many tools catch everything around main and would report the stop itself as a failure.
            if (first[0] < 0) {
                first[0] = code;
                stdout.end(true);
                stderr.end(true);
            }
            throw new Exited(first[0]);
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        PrintStream realOut = System.out;
        PrintStream realErr = System.err;
        System.setIn(new ByteArrayInputStream(input));
        System.setOut(new PrintStream(stdout, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(stderr, true, StandardCharsets.UTF_8));
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        int code = 0;
        try (URLClassLoader loader = new URLClassLoader(urls, ToolServer.class.getClassLoader())) {
            Thread.currentThread().setContextClassLoader(loader);
            try {
                String[] arguments = words.subList(1, words.size()).toArray(new String[0]);
                loader.loadClass(words.get(0)).getMethod("main", String[].class).invoke(null, (Object) arguments);
            } catch (InvocationTargetException thrown) {
                if (!(thrown.getCause() instanceof Exited)) {
                    thrown.getCause().printStackTrace();
                    code = 1;
                }
            }
            stdout.end(false);
            stderr.end(false);
            for (Runnable hook : hooks) {
                hook.run();
            }
        } finally {
            Thread.currentThread().setContextClassLoader(before);
            System.setOut(realOut);
            System.setErr(realErr);
        }
        return first[0] < 0 ? code : first[0];
    }
}
